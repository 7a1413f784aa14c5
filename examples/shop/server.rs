//! The shop over HTTP: `POST /orders` answers as soon as the order is committed, everything else happens behind it.

use std::{fmt::Display, net::Ipv4Addr, sync::Arc};

use anyhow::Context;
use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use evented::sqlx;
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    orders::{Cart, Order},
    place::{Placed, place},
    shop::Shop,
};

pub async fn serve(shop: Shop, port: u16) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .with_context(|| format!("cannot listen on 127.0.0.1:{port}"))?;
    // No role in the code: EVENTED_ROLE=emit makes this process one that only takes orders.
    let app = shop.evented().await?;

    let address = listener.local_addr()?;
    println!("listening on http://{address}, stop with Ctrl-C; to order something:");
    println!(
        r#"  curl -i http://{address}/orders --json '{{"email": "ada@mail.example", "items": [{{"sku": "MUG-BLUE", "quantity": 2}}]}}'"#
    );
    let router = Router::new()
        .route("/orders", post(post_order))
        .route("/orders/{number}", get(get_order))
        .with_state(Arc::new(shop));
    axum::serve(listener, router).with_graceful_shutdown(interrupted()).await?;

    // Only now: a request that was still being answered had to emit.
    app.stop().await;
    Ok(())
}

async fn post_order(State(shop): State<Arc<Shop>>, Json(cart): Json<Cart>) -> Response {
    let order = match Order::new(None, cart) {
        Ok(order) => order,
        Err(mistake) => {
            return (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "error": mistake.to_string() }))).into_response();
        }
    };
    match place(&shop.db, &order).await {
        Ok(Placed::Accepted { number }) => (StatusCode::CREATED, Json(json!({ "order": number }))).into_response(),
        Ok(Placed::Refused { number, out_of_stock }) => {
            (StatusCode::CONFLICT, Json(json!({ "order": number, "out_of_stock": out_of_stock }))).into_response()
        }
        Ok(Placed::Before) => failed("the database chose the number of another order"),
        Err(error) => failed(format!("{error:?}")),
    }
}

async fn get_order(State(shop): State<Arc<Shop>>, Path(number): Path<u32>) -> Response {
    let row: sqlx::Result<Option<(String, i64, i64)>> = sqlx::query_as(
        "select status, total_cents, (select coalesce(sum(amount_cents), 0) from ledger where order_number = number)
         from orders where number = ?1",
    )
    .bind(number)
    .fetch_optional(&shop.db)
    .await;
    match row {
        Ok(Some((status, total_cents, booked_cents))) => Json(json!({
            "order": number, "status": status, "total_cents": total_cents, "booked_cents": booked_cents,
        }))
        .into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => failed(error),
    }
}

/// The log gets the reason; the customer gets none of the shop's insides.
fn failed(reason: impl Display) -> Response {
    tracing::error!("request failed: {reason}");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

async fn interrupted() {
    if let Err(error) = tokio::signal::ctrl_c().await {
        // Without the signal nothing would ever end this process but a kill; better to end now.
        tracing::error!("cannot wait for Ctrl-C: {error}");
    }
}
