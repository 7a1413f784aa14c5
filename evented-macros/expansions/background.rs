async fn send_mail(
    event: OrderPlaced,
    mailer: State<Mailer>,
    delivery: Delivery,
) -> anyhow::Result<()> {
    Ok(())
}
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
                needs: &[
                    <State<
                        Mailer,
                    > as __evented::HandlerArg<'_, __evented::Background>>::needs,
                    <Delivery as __evented::HandlerArg<'_, __evented::Background>>::needs,
                ],
                call: __evented::Call::Background(
                    __evented::Stores {
                        queue: "mail",
                        policy: __evented::Policy::DEFAULT
                            .retries(8u32)
                            .backoff(
                                __evented::Duration::from_millis(1000u64),
                                __evented::Duration::from_millis(3600000u64),
                            )
                            .timeout(__evented::Duration::from_millis(30000u64)),
                        terms: __evented::Terms::DEFAULT,
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
                                match <State<
                                    Mailer,
                                > as __evented::HandlerArg<
                                    '_,
                                    __evented::Background,
                                >>::take(__evented_context) {
                                    __evented::Result::Ok(__evented_value) => __evented_value,
                                    __evented::Result::Err(__evented_error) => {
                                        return __evented::refuse(__evented_error);
                                    }
                                },
                                match <Delivery as __evented::HandlerArg<
                                    '_,
                                    __evented::Background,
                                >>::take(__evented_context) {
                                    __evented::Result::Ok(__evented_value) => __evented_value,
                                    __evented::Result::Err(__evented_error) => {
                                        return __evented::refuse(__evented_error);
                                    }
                                },
                            ),
                            <anyhow::Result<()> as __evented::HandlerOutput>::into_result,
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
        0
    }],
);
::evented::seen_by_rust_analyzer! {
    handler(background) background(queue retries backoff timeout) backoff(max);
    OrderPlaced
}
