//! The site of Redis: a prefix of its own on the server that all tests share.

use evented::{
    store::{Store, open_queue},
    testing::Site,
};
use evented_tests::servers::Redis;

pub struct Queue(String);

impl Site for Queue {
    const NAME: &'static str = "Redis";

    async fn new() -> Option<Self> {
        let redis = Redis::shared()?;
        Some(Self(format!("{}/0?prefix={}", redis.url(), redis.prefix())))
    }

    async fn open(&self) -> Store {
        open_queue(&self.0).await.unwrap()
    }
}
