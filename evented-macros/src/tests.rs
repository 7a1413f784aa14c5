//! What the attributes write: snapshots to review its size, and what happens to items that are half typed.
//!
//! `EVENTED_BLESS=1` writes the snapshots, in `expansions/`.

use std::{env, fs, path::Path};

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Expr, Item, Stmt, parse::Parser, parse_quote};

use crate::{event, handler, options, route, terms};

/// The expansion as code: the holder as the struct that it becomes, and a registration as a call.
fn code(expansion: TokenStream) -> String {
    let mut file: syn::File = syn::parse2(expansion).expect("an expansion is Rust");
    for item in &mut file.items {
        match item {
            Item::Macro(holder) if holder.mac.path.to_token_stream().to_string().contains("a_handler_is_a_free") => {
                let block = |input: syn::parse::ParseStream<'_>| {
                    let attributes = input.call(syn::Attribute::parse_outer)?;
                    Ok((attributes, input.parse::<syn::Ident>()?, input.parse::<syn::Block>()?))
                };
                let (attributes, name, mut block) =
                    block.parse2(holder.mac.tokens.clone()).expect("a name and a block");
                show_registrations(&mut block);
                *item = parse_quote!(#(#attributes)* struct #name([(); #block]););
            }
            Item::Const(held) => {
                if let Expr::Block(held) = &mut *held.expr {
                    show_registrations(&mut held.block);
                }
            }
            _ => {}
        }
    }
    prettyplease::unparse(&file)
}

fn show_registrations(block: &mut syn::Block) {
    for stmt in &mut block.stmts {
        let Stmt::Macro(submit) = stmt else { continue };
        if submit.mac.path.segments.last().is_some_and(|last| last.ident == "submit") {
            let def: Expr = submit.mac.parse_body().expect("one registration");
            *stmt = parse_quote!(submit(#def););
        }
    }
}

fn check_snapshot(name: &str, expansion: TokenStream) {
    let found = code(expansion);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("expansions/{name}.rs"));
    if env::var_os("EVENTED_BLESS").is_some() {
        fs::write(&path, &found).expect("the snapshot can be written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == found, "{} differs; to accept it, run with EVENTED_BLESS=1:\n{found}", path.display());
}

macro_rules! snapshots {
    ($($name:ident: #[$attribute:ident($($args:tt)*)] { $($item:tt)* })*) => {$(
        #[test]
        fn $name() {
            check_snapshot(stringify!($name), $attribute::expand(quote!($($args)*), &quote!($($item)*)));
        }
    )*};
}

snapshots! {
    an_event: #[event()] {
        struct OrderPlaced { order_id: u64 }
    }
    an_event_with_every_option: #[event(transactional, id = "payments.captured", aliases("Paid"), version = 2, from(PaidV1))] {
        #[derive(Serialize, Deserialize)]
        pub struct PaymentCaptured { order_id: u64 }
    }
    an_event_with_a_mistake: #[event(transctional)] {
        struct PaymentCaptured<'a> { email: &'a str }
    }
    in_process: #[handler(OrderPlaced)] {
        fn count(event: &OrderPlaced, metrics: State<Metrics>) { metrics.orders.inc(); }
    }
    in_process_async: #[handler(OrderPlaced, in_process)] {
        async fn count(event: &OrderPlaced) -> Result<(), Error> { Ok(()) }
    }
    in_transaction: #[handler(PaymentCaptured, in_process(in_transaction))] {
        async fn check<'t>(event: &PaymentCaptured, tx: &'t mut Tx<Sqlite>) -> Result<(), Error> { Ok(()) }
    }
    background: #[handler(OrderPlaced, background(queue = "mail", retries = 8, backoff("1s", max = "1h"), timeout = "30s"))] {
        async fn send_mail(event: OrderPlaced, mailer: State<Mailer>, delivery: Delivery) -> anyhow::Result<()> { Ok(()) }
    }
    background_on_terms: #[handler(OrderPlaced, background(priority = "high", concurrency = 4, unique(key = "order_id", within = "10m")))] {
        async fn send_mail(event: OrderPlaced) {}
    }
    background_in_order: #[handler(OrderPlaced, background(ordered_by = "customer_id", unique(key = "type", within = "7d")))] {
        async fn ship(event: OrderPlaced) {}
    }
    background_blocking: #[handler(OrderPlaced, background, id = "invoices.write", aliases("OrderPlaced/invoice"))] {
        fn write_invoice(event: OrderPlaced) {}
    }
    outbox: #[handler(PaymentCaptured, outbox)] {
        async fn book(event: PaymentCaptured, tx: &mut Tx<Sqlite>) -> Result<(), LedgerError> { Ok(()) }
    }
    a_handler_with_a_mistake: #[handler(OrderPlaced, background(retires = 8))] {
        const fn send_mail(event: OrderPlaced) {}
    }
}

/// Token by token, since the item may not be Rust yet.
fn begins_with(expansion: &TokenStream, item: &TokenStream) -> bool {
    let mut expansion = expansion.clone().into_iter().map(|token| token.to_string());
    item.clone().into_iter().all(|token| expansion.next() == Some(token.to_string()))
}

/// An editor expands while one types; what it gives then need not be Rust.
#[test]
fn an_item_that_is_half_typed_stays_and_has_no_mistake_of_ours() {
    let items: &[&str] = &[
        "fn",
        "fn send",
        "fn send(event)",
        "fn send(event: )",
        "fn send(event: &OrderPlaced, )",
        "fn send(event: &OrderPlaced, mailer)",
        "fn send(event: &OrderPlaced, mailer: ) {}",
        "fn send(event: &OrderPlaced, mailer: State<) {}",
        "fn send(event: &OrderPlaced) -> {}",
        "pub async fn send(event: &) {}",
        "async fn send(event: &OrderPlaced) { mailer. }",
        "fn send(event: &OrderPlaced) { let a = ; if b { match }",
    ];
    for written in items {
        // As an editor does: what is open is closed.
        let open = written.matches('(').count() - written.matches(')').count();
        let braces = written.matches('{').count() - written.matches('}').count();
        let closed = format!("{written}{}{}", ")".repeat(open), "}".repeat(braces));
        let item: TokenStream = closed.parse().expect("balanced");
        let expansion = handler::expand(quote!(OrderPlaced), &item);
        assert!(begins_with(&expansion, &item), "{written}: {expansion}");
        assert!(!expansion.to_string().contains("compile_error"), "{written}: {expansion}");
    }
}

#[test]
fn an_event_that_is_half_typed_is_an_event_still() {
    for written in [
        "struct OrderPlaced",
        "struct OrderPlaced {",
        "struct OrderPlaced { id: }",
        "enum OrderPlaced { A, B( }",
        "pub struct OrderPlaced(u64,",
    ] {
        let closed = match written.chars().filter(|c| "({".contains(*c)).count()
            - written.chars().filter(|c| ")}".contains(*c)).count()
        {
            0 => written.to_owned(),
            _ if written.contains('(') && written.contains('{') => written.replace('}', ")}"),
            _ if written.contains('(') => format!("{written})"),
            _ => format!("{written}}}"),
        };
        let item: TokenStream = closed.parse().expect("balanced");
        let expansion = event::expand(TokenStream::new(), &item);
        assert!(begins_with(&expansion, &item), "{written}: {expansion}");
        let text = expansion.to_string();
        assert!(text.contains("Event for OrderPlaced") && !text.contains("compile_error"), "{written}: {text}");
    }
}

/// The lists in which an editor completes, and the names that stand in them.
#[test]
fn an_attribute_that_is_half_typed_shows_its_words_to_rust_analyzer() {
    let cases: &[(&str, &[&str])] = &[
        ("OrderPlaced, back", &["{ handler (back) ; OrderPlaced }"]),
        ("OrderPlaced, background(re)", &["{ handler (background) background (re) ; OrderPlaced }"]),
        ("OrderPlaced, background(queue = , re)", &["background (queue re)"]),
        ("OrderPlaced, background(retries = 8, backoff(\"1s\", ma))", &["background (retries backoff) backoff (ma)"]),
        ("OrderPlaced, outbox(unique(ke))", &["outbox (unique) unique (ke)"]),
        ("OrderPlaced, in_process(in_)", &["in_process (in_)"]),
        ("OrderPl", &["{ ; OrderPl }"]),
        ("orders::Order, outbox(ti", &["outbox (ti) ; orders :: Order"]),
        ("OrderPlaced, background(queue = \"mail\", =)", &["background (queue)"]),
        ("OrderPlaced, , background", &["handler (background)"]),
        ("", &[]),
        (", background", &["{ handler (background) ; }"]),
    ];
    let item = quote!(
        async fn send(event: OrderPlaced) {}
    );
    for (written, shown) in cases {
        let args = if written.matches('(').count() > written.matches(')').count() {
            format!("{written})")
        } else {
            (*written).to_owned()
        };
        let expansion = handler::expand(args.parse().expect("balanced"), &item);
        assert!(begins_with(&expansion, &item), "{written}: {expansion}");
        let text = expansion.to_string();
        for shown in *shown {
            assert!(text.contains(shown), "{written}: {shown} is not in {text}");
        }
    }
    let text = event::expand(
        "trans".parse().expect("a word"),
        &quote!(
            struct OrderPlaced;
        ),
    )
    .to_string();
    assert!(text.contains("seen_by_rust_analyzer ! { event (trans) ; }"), "{text}");
}

/// What rust-analyzer completes are items of the library: one for each option, and no others.
#[test]
fn every_option_has_its_documented_item_in_the_library() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../evented/src/options.rs"));
    let file = syn::parse_file(&text.expect("the library lies beside")).expect("it is Rust");
    let lists: &[(&str, Vec<&str>)] = &[
        ("event", options::EVENT.to_vec()),
        ("handler", options::HANDLER.to_vec()),
        ("in_process", vec!["in_transaction"]),
        ("background", route::STORED.to_vec()),
        ("backoff", vec!["max", "fixed"]),
        ("unique", terms::UNIQUE.to_vec()),
    ];
    for (list, known) in lists {
        let module = file.items.iter().find_map(|item| match item {
            Item::Mod(module) if module.ident == list => module.content.as_ref().map(|(_, items)| items),
            _ => None,
        });
        let items = module.unwrap_or_else(|| panic!("options.rs has no list {list}")).iter();
        let mut named: Vec<_> = items
            .filter_map(|item| match item {
                Item::Const(option) => Some(option.ident.to_string()),
                _ => None,
            })
            .collect();
        let mut known: Vec<_> = known.iter().filter(|option| **option != "crate").map(ToString::to_string).collect();
        named.sort();
        known.sort();
        assert_eq!(named, known, "{list}");
    }
}
