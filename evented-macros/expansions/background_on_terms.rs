async fn send_mail(event: OrderPlaced) {}
struct __evented_handler_send_mail_1(
    [(); {
        use ::evented::__private as __evented;
        type __EventedEvent = OrderPlaced;
        submit(
            __evented::MakeHandler(|| __evented::HandlerDef {
                id: __evented::Option::None,
                name: "send_mail",
                aliases: &[],
                event: <OrderPlaced as __evented::Event>::ID,
                event_type: __evented::TypeId::of::<__EventedEvent>,
                version: <OrderPlaced as __evented::Event>::VERSION,
                needs: &[],
                call: __evented::Call::Background(
                    __evented::Stores {
                        queue: "default",
                        policy: __evented::Policy::DEFAULT,
                        terms: __evented::Terms::DEFAULT
                            .priority(__evented::Priority::High)
                            .concurrency(4u32)
                            .unique(
                                "order_id",
                                __evented::Duration::from_millis(600000u64),
                            ),
                        decode: <<OrderPlaced as __evented::Event>::Delivery as __evented::Stored<
                            __EventedEvent,
                        >>::DECODE,
                        call: &__evented::StoredCall::<
                            __EventedEvent,
                        >::Async(|__evented_event, __evented_context| __evented::run_async(
                            send_mail(
                                <OrderPlaced as __evented::EventArg<
                                    '_,
                                    __EventedEvent,
                                    __evented::Background,
                                >>::from_source(__evented_event),
                            ),
                            <() as __evented::HandlerOutput>::into_result,
                        )),
                    },
                    (),
                ),
                place: __evented::Place {
                    file: "src/lib.rs",
                    line: 1u32,
                    module: __evented::module_path!(),
                },
            }),
        );
        let _ = |__evented_event: __EventedEvent| {
            let _ = __evented_event.r#order_id;
        };
        0
    }],
);
::evented::seen_by_rust_analyzer! {
    handler(background) background(priority concurrency unique) unique(key within);
    OrderPlaced
}
