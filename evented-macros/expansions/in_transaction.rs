async fn check<'t>(
    event: &PaymentCaptured,
    tx: &'t mut Tx<Sqlite>,
) -> Result<(), Error> {
    Ok(())
}
struct __evented_handler_check_1(
    [(); {
        use ::evented::__private as __evented;
        type __EventedEvent = PaymentCaptured;
        submit(
            __evented::MakeHandler(|| __evented::HandlerDef {
                id: __evented::Option::None,
                name: "check",
                aliases: &[],
                event: <PaymentCaptured as __evented::Event>::ID,
                event_type: __evented::TypeId::of::<__EventedEvent>,
                version: <PaymentCaptured as __evented::Event>::VERSION,
                needs: &[
                    <&'_ mut Tx<
                        Sqlite,
                    > as __evented::HandlerArg<'_, __evented::InTransaction>>::needs,
                ],
                call: __evented::Call::InTransaction(
                    &__evented::InProcessCall::<
                        __EventedEvent,
                    >::Async(|__evented_event, __evented_context| __evented::run_async(
                        check(
                            <&PaymentCaptured as __evented::EventArg<
                                '_,
                                __EventedEvent,
                                __evented::InTransaction,
                            >>::from_source(__evented_event),
                            match <&'_ mut Tx<
                                Sqlite,
                            > as __evented::HandlerArg<
                                '_,
                                __evented::InTransaction,
                            >>::take(__evented_context) {
                                __evented::Result::Ok(__evented_value) => __evented_value,
                                __evented::Result::Err(__evented_error) => {
                                    return __evented::refuse(__evented_error);
                                }
                            },
                        ),
                        <Result<(), Error> as __evented::HandlerOutput>::into_result,
                    )),
                    <<PaymentCaptured as __evented::Event>::Delivery as __evented::HandledInTransaction<
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
    handler(in_process) in_process(in_transaction); PaymentCaptured
}
