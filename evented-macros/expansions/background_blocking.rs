fn write_invoice(event: OrderPlaced) {}
struct __evented_handler_write_invoice_1(
    [(); {
        use ::evented::__private as __evented;
        type __EventedEvent = OrderPlaced;
        submit(
            __evented::MakeHandler(|| __evented::HandlerDef {
                id: __evented::Option::Some("invoices.write"),
                name: "write_invoice",
                aliases: &["OrderPlaced/invoice"],
                event: <OrderPlaced as __evented::Event>::ID,
                event_type: __evented::TypeId::of::<__EventedEvent>,
                version: <OrderPlaced as __evented::Event>::VERSION,
                needs: &[],
                call: __evented::Call::Background(
                    __evented::Stores {
                        queue: "default",
                        policy: __evented::Policy::DEFAULT,
                        terms: __evented::Terms::DEFAULT,
                        decode: <<OrderPlaced as __evented::Event>::Delivery as __evented::Stored<
                            __EventedEvent,
                        >>::DECODE,
                        call: &__evented::StoredCall::<
                            __EventedEvent,
                        >::Plain(|__evented_event, __evented_context| <() as __evented::HandlerOutput>::into_result(
                            write_invoice(
                                <OrderPlaced as __evented::EventArg<
                                    '_,
                                    __EventedEvent,
                                    __evented::Blocking,
                                >>::from_source(__evented_event),
                            ),
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
        #[doc(hidden)]
        #[allow(non_local_definitions)]
        #[macro_export]
        macro_rules! two_handlers_have_this_id__give_one_an_id_of_its_own__invoices_dot_write {
            () => {};
        }
        #[doc(hidden)]
        #[allow(non_local_definitions)]
        #[macro_export]
        macro_rules! two_handlers_have_this_id__give_one_an_id_of_its_own__OrderPlaced_slash_invoice {
            () => {};
        }
        0
    }],
);
::evented::seen_by_rust_analyzer! {
    handler(background id aliases); OrderPlaced
}
