//! The contract suite, `evented::testing`, over each store: one line for each suite that it passes.

pub mod mysql;
pub mod postgres;
pub mod redis;
pub mod sqlite;

evented::contract_suite! { queue_in_the_model: evented::testing::Model }
evented::contract_suite! { queue_in_sqlite: crate::contract::sqlite::Queue }
evented::contract_suite! { queue_in_postgres: crate::contract::postgres::Queue }
evented::contract_suite! { queue_in_redis: crate::contract::redis::Queue }
evented::contract_suite! { queue_beside_an_sqlite_outbox: crate::contract::sqlite::Outbox }
evented::contract_suite! { queue_beside_a_postgres_outbox: crate::contract::postgres::Outbox }
evented::outbox_contract_suite! { outbox_in_sqlite: crate::contract::sqlite::Outbox }
evented::contract_suite! { queue_beside_a_mysql_outbox: crate::contract::mysql::Outbox }
evented::outbox_contract_suite! { outbox_in_mysql: crate::contract::mysql::Outbox }
evented::outbox_contract_suite! { outbox_in_postgres: crate::contract::postgres::Outbox }
