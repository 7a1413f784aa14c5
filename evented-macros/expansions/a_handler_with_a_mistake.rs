const fn send_mail(event: OrderPlaced) {}
::evented::seen_by_rust_analyzer! {
    handler(background) background(retires); OrderPlaced
}
::core::compile_error! {
    "unknown option in `background(..)`: `retires`\n\n= help: did you mean `retries`?\n= note: known options are `queue`, `retries`, `backoff`, `timeout`, `priority`, `concurrency`, `unique`, `ordered_by`"
}
::core::compile_error! {
    "handler `send_mail` must not be `const`"
}
