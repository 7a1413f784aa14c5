struct PaymentCaptured<'a> {
    email: &'a str,
}
const _: () = {
    use ::evented::__private as __evented;
    impl<'a> __evented::Event for PaymentCaptured<'a>
    where
        Self: __evented::Send + __evented::Sync + 'static,
    {
        const ID: &'static __evented::str = "PaymentCaptured";
        type Delivery = __evented::Immediate;
        fn slot() -> &'static __evented::Slot<Self> {
            loop {}
        }
    }
};
::evented::seen_by_rust_analyzer! {
    event(transctional);
}
::core::compile_error! {
    "unknown option in `#[event(..)]`: `transctional`\n\n= help: did you mean `transactional`?\n= note: known options are `transactional`, `id`, `aliases`, `version`, `from`, `crate`"
}
::core::compile_error! {
    "event `PaymentCaptured` must own its data: it may outlive the call that emits it\n\n= help: replace borrowed fields by owned ones, like `String`"
}
