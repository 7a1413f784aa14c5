async fn count(event: &OrderPlaced) -> Result<(), Error> {
    Ok(())
}
struct __evented_handler_count_1(
    [(); {
        use ::evented::__private as __evented;
        type __EventedEvent = OrderPlaced;
        submit(
            __evented::MakeHandler(|| __evented::HandlerDef {
                id: __evented::Option::None,
                name: "count",
                aliases: &[],
                event: <OrderPlaced as __evented::Event>::ID,
                event_type: __evented::TypeId::of::<__EventedEvent>,
                version: <OrderPlaced as __evented::Event>::VERSION,
                needs: &[],
                call: __evented::Call::InProcess(
                    &__evented::InProcessCall::<
                        __EventedEvent,
                    >::Async(|__evented_event, __evented_context| __evented::run_async(
                        count(
                            <&OrderPlaced as __evented::EventArg<
                                '_,
                                __EventedEvent,
                                __evented::InProcess,
                            >>::from_source(__evented_event),
                        ),
                        <Result<(), Error> as __evented::HandlerOutput>::into_result,
                    )),
                    <<OrderPlaced as __evented::Event>::Delivery as __evented::HandledInProcess<
                        __EventedEvent,
                    >>::CHECK,
                ),
                place: __evented::Place {
                    file: "src/lib.rs",
                    line: 1u32,
                    module: __evented::module_path!(),
                },
            }),
        );
        0
    }],
);
::evented::seen_by_rust_analyzer! {
    handler(in_process); OrderPlaced
}
