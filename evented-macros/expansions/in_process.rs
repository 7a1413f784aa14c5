fn count(event: &OrderPlaced, metrics: State<Metrics>) {
    metrics.orders.inc();
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
                needs: &[
                    <State<
                        Metrics,
                    > as __evented::HandlerArg<'_, __evented::InProcess>>::needs,
                ],
                call: __evented::Call::InProcess(
                    &__evented::InProcessCall::<
                        __EventedEvent,
                    >::Plain(|__evented_event, __evented_context| <() as __evented::HandlerOutput>::into_result(
                        count(
                            <&OrderPlaced as __evented::EventArg<
                                '_,
                                __EventedEvent,
                                __evented::InProcess,
                            >>::from_source(__evented_event),
                            match <State<
                                Metrics,
                            > as __evented::HandlerArg<
                                '_,
                                __evented::InProcess,
                            >>::take(__evented_context) {
                                __evented::Result::Ok(__evented_value) => __evented_value,
                                __evented::Result::Err(__evented_error) => {
                                    return __evented::refuse_sync(__evented_error);
                                }
                            },
                        ),
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
    ; OrderPlaced
}
