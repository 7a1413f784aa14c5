//! What makes a transaction of `tokio-postgres` one that events are emitted in: written once, for all of an application.

use evented::{
    InTx,
    outbox::{Kind, Ran, Statement, Value},
    sqlx::Postgres,
};
use tokio_postgres::{Transaction, types::ToSql};

/// A type of the application's own: it makes the implementation the application's to write.
pub struct TokioPostgres;

impl InTx<TokioPostgres> for Transaction<'_> {
    fn kind(&self) -> Kind {
        Kind::of::<Postgres>()
    }

    fn run<'a>(&'a mut self, statement: &'a Statement) -> Ran<'a> {
        Box::pin(async move {
            let values: Vec<_> = statement.values().iter().map(to_sql).collect();
            Ok(self.execute(statement.sql(), &values).await?)
        })
    }
}

fn to_sql(value: &Value) -> &(dyn ToSql + Sync) {
    match value {
        Value::Bytes(bytes) => bytes,
        Value::Text(text) => text,
        Value::Integer(number) => number,
    }
}
