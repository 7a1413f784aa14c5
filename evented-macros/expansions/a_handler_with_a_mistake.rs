const fn send_mail(event: OrderPlaced) {}
::evented::seen_by_rust_analyzer! {
    type __Event = OrderPlaced; mod handler { use
    ::evented::__private::options::handler:: *; use self:: { background as _ }; } mod
    background { use ::evented::__private::options::background:: *; use self:: { retires
    as _ }; }
}
::core::compile_error! {
    "unknown option in `background(..)`: `retires`\n\n= help: did you mean `retries`?\n= note: known options are `queue`, `retries`, `backoff`, `timeout`"
}
::core::compile_error! {
    "handler `send_mail` must not be `const`"
}
