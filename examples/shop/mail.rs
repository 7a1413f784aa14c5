//! The mails, and the moods of the server that takes them.

use std::{fmt::Write as _, path::PathBuf};

use anyhow::bail;
use evented::prelude::*;
use lettre::{FileTransport, Message, Transport, message::Mailbox};

use crate::{
    catalogue::{self, euros},
    events::{OrderPlaced, OrderRefused},
    orders::Cart,
};

/// Writes mails as `.eml` files, through the same library that would send them.
pub struct Mailer(FileTransport);

pub struct Letter<'a> {
    order: u32,
    to: &'a Cart,
    subject: String,
    body: String,
}

impl Mailer {
    pub fn new(directory: PathBuf) -> Self {
        Self(FileTransport::new(directory))
    }

    /// Hands `letter` to the mail server. A crash between this and the end of the delivery sends it twice: the
    /// message id is the delivery's, so that the receiver can tell.
    pub fn send(&self, letter: &Letter<'_>, delivery: &Delivery) -> anyhow::Result<()> {
        let Cart { name, email, .. } = letter.to;
        if bounces(email) {
            // Trying again would only annoy the other side: to the dead letters, at once.
            return Err(Permanent::new(format!("550 there is no mailbox `{email}`")).into());
        }
        if greylisted(letter.order) && delivery.attempt() == 1 {
            bail!("451 greylisted, try again later");
        }
        let name = Some(name.clone()).filter(|name| !name.is_empty());
        let message = Message::builder()
            .message_id(Some(format!("<{}@shop.example>", delivery.id())))
            .from("The shop <orders@shop.example>".parse()?)
            .to(Mailbox::new(name, email.parse()?))
            .subject(&*letter.subject)
            .body(letter.body.clone())?;
        self.0.send(&message)?;
        Ok(())
    }
}

/// Whether the server knows nobody of this address.
pub fn bounces(email: &str) -> bool {
    email.ends_with("@bounce.example")
}

/// Whether the server turns the first attempt away, as real ones do with senders that they do not know.
pub fn greylisted(order: u32) -> bool {
    order.is_multiple_of(7)
}

impl<'a> Letter<'a> {
    pub fn confirmation(event: &'a OrderPlaced) -> Self {
        let mut body = greeting(&event.cart);
        body.push_str("thank you for your order. It is on its way:\n\n");
        for item in &event.cart.items {
            let name = catalogue::find(&item.sku).map_or(&*item.sku, |product| product.name);
            // Writing to a string cannot fail.
            let _ = writeln!(body, "  {:>3} x {name}", item.quantity);
        }
        let _ = write!(body, "\nTotal: {}\n\nThe shop\n", euros(event.total_cents));
        Self { order: event.number, to: &event.cart, subject: format!("Your order {}", event.number), body }
    }

    pub fn regrets(event: &'a OrderRefused) -> Self {
        let missing = catalogue::find(&event.out_of_stock).map_or(&*event.out_of_stock, |product| product.name);
        let mut body = greeting(&event.cart);
        let _ = write!(body, "we are sorry: \"{missing}\" is sold out. Nothing was charged.\n\nThe shop\n");
        Self { order: event.number, to: &event.cart, subject: format!("Your order {} is sold out", event.number), body }
    }
}

fn greeting(cart: &Cart) -> String {
    match &*cart.name {
        "" => "Good day,\n\n".to_owned(),
        name => format!("Dear {name},\n\n"),
    }
}
