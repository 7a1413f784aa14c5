//! The site of Postgres: a database of its own on the server that the tests share.

use std::sync::Arc;

use evented::{
    store::{Store, open_queue},
    testing::Site,
};
use evented_tests::servers::Postgres;

pub struct Queue(String);

impl Site for Queue {
    const NAME: &'static str = "Postgres";

    async fn new() -> Option<Self> {
        Some(Self(Postgres::shared()?.database()))
    }

    async fn open(&self) -> Arc<dyn Store> {
        open_queue(&self.0).await.unwrap()
    }
}
