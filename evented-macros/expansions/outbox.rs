async fn book(event: PaymentCaptured, tx: &mut Tx<Sqlite>) -> Result<(), LedgerError> {
    Ok(())
}
struct __evented_handler_book_1(
    [(); {
        use ::evented::__private as __evented;
        type __EventedEvent = PaymentCaptured;
        submit(
            __evented::MakeHandler(|| __evented::HandlerDef {
                id: __evented::Option::None,
                name: "book",
                aliases: &[],
                event: <PaymentCaptured as __evented::Event>::ID,
                event_type: __evented::TypeId::of::<__EventedEvent>,
                version: <PaymentCaptured as __evented::Event>::VERSION,
                needs: &[
                    <&mut Tx<
                        Sqlite,
                    > as __evented::HandlerArg<'_, __evented::Outbox>>::needs,
                ],
                call: __evented::Call::Outbox(
                    __evented::Stores {
                        queue: "default",
                        policy: __evented::Policy::DEFAULT,
                        terms: __evented::Terms::DEFAULT,
                        decode: <<PaymentCaptured as __evented::Event>::Delivery as __evented::Stored<
                            __EventedEvent,
                        >>::DECODE,
                        call: &__evented::StoredCall::<
                            __EventedEvent,
                        >::Async(|__evented_event, __evented_context| __evented::run_async(
                            book(
                                <PaymentCaptured as __evented::EventArg<
                                    '_,
                                    __EventedEvent,
                                    __evented::Outbox,
                                >>::from_source(__evented_event),
                                match <&mut Tx<
                                    Sqlite,
                                > as __evented::HandlerArg<
                                    '_,
                                    __evented::Outbox,
                                >>::take(__evented_context) {
                                    __evented::Result::Ok(__evented_value) => __evented_value,
                                    __evented::Result::Err(__evented_error) => {
                                        return __evented::refuse(__evented_error);
                                    }
                                },
                            ),
                            <Result<
                                (),
                                LedgerError,
                            > as __evented::HandlerOutput>::into_result,
                        )),
                    },
                    <<PaymentCaptured as __evented::Event>::Delivery as __evented::HandledByOutbox<
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
    handler(outbox); PaymentCaptured
}
