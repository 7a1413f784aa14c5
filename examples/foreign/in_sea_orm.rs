//! The same for `sea-orm`, whose transactions do not say in their type of which database they are: the application does, here.

use evented::{
    InTx,
    outbox::{Kind, Ran, Statement, Value},
    sqlx::Postgres,
};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend};

/// A type of the application's own, as for `tokio-postgres`.
pub struct SeaOrm;

impl InTx<SeaOrm> for DatabaseTransaction {
    fn kind(&self) -> Kind {
        Kind::of::<Postgres>()
    }

    fn run<'a>(&'a mut self, statement: &'a Statement) -> Ran<'a> {
        let values = statement.values().iter().map(|value| match value {
            Value::Bytes(bytes) => bytes.clone().into(),
            Value::Text(text) => text.clone().into(),
            Value::Integer(number) => sea_orm::Value::from(*number),
        });
        let statement = sea_orm::Statement::from_sql_and_values(DbBackend::Postgres, statement.sql(), values);
        Box::pin(async move { Ok(self.execute_raw(statement).await?.rows_affected()) })
    }
}
