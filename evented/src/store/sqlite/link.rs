//! A connection of ours that is opened when it is needed, and again after it broke or its file is no longer at its path.

use std::sync::Arc;

use sqlx::{Connection, Error as SqlxError, SqliteConnection, query};

use super::{
    file::{File, Nodes},
    writer::is_busy,
};

pub(super) struct Link {
    file: Arc<File>,
    /// Makes the file again where it is missing.
    writes: bool,
    conn: Option<(SqliteConnection, Nodes)>,
}

impl Link {
    /// A connection that reads, or changes rows alone.
    pub(super) fn new(file: &Arc<File>) -> Self {
        Self { file: Arc::clone(file), writes: false, conn: None }
    }

    /// The writer's: what the others find depends on it.
    pub(super) fn to_write(file: &Arc<File>) -> Self {
        Self { writes: true, ..Self::new(file) }
    }

    pub(super) async fn get(&mut self) -> Result<&mut SqliteConnection, SqlxError> {
        self.leave_what_is_gone().await;
        // One whose transaction could not be rolled back, as on a full disk, is of no more use; nor is one that was left half way.
        if self.conn.as_ref().is_none_or(|(conn, _)| conn.is_in_transaction()) {
            self.conn = None;
            let opened = if self.writes { self.file.connect_to_write().await } else { self.file.connect().await };
            self.conn = Some(opened?);
        }
        let (conn, _) = self.conn.as_mut().expect("it was just opened");
        Ok(conn)
    }

    /// Whether what is open is still what others find at the path.
    pub(super) fn is_there(&self) -> bool {
        self.conn.as_ref().is_none_or(|(_, opened)| !opened.differ_from(self.file.look()))
    }

    /// Closes a connection whose file is no longer at its path. Answers whether the writer is to be asked before another is opened.
    pub(super) async fn leave_what_is_gone(&mut self) -> bool {
        if self.is_there() {
            return self.conn.is_none() && !self.file.is_there();
        }
        let Some((mut conn, opened)) = self.conn.take() else { return false };
        let now = self.file.look();
        self.file.say_changed(opened, now);
        if opened.file == now.file && self.file.log_is_empty() {
            // The log alone is gone from its path: what it holds is brought into the file while it can be read, and the index
            // says that it is empty, before another is begun. The old log is empty after that, so that it does no harm to what
            // is written later, whoever else has it open.
            if let Err(error) = query("pragma wal_checkpoint(truncate)").execute(&mut conn).await {
                tracing::error!(store = self.file.name(), %error, "what was in the log could not be saved");
            }
        }
        // It is of no use, whatever its end says.
        let _closed = conn.close().await;
        true
    }

    /// Forgets the connection after `error`, unless the error says that the connection itself is well.
    pub(super) fn mend(&mut self, error: &SqlxError) {
        if !is_busy(error) {
            self.conn = None;
        }
    }
}
