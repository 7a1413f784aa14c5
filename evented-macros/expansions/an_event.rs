struct OrderPlaced {
    order_id: u64,
}
const _: () = {
    use ::evented::__private as __evented;
    #[automatically_derived]
    impl __evented::Event for OrderPlaced {
        const ID: &'static __evented::str = "OrderPlaced";
        type Delivery = __evented::Immediate;
        const ENCODE: __evented::Option<__evented::Encode<Self>> = {
            use __evented::encode_of::*;
            EncodeOf::<OrderPlaced>::ENCODE
        };
        fn slot() -> &'static __evented::Slot<Self> {
            static SLOT: __evented::Slot<OrderPlaced> = __evented::Slot::new();
            &SLOT
        }
    }
    submit(
        __evented::EventDef::of::<OrderPlaced>()
            .at(__evented::Place {
                file: "src/lib.rs",
                line: 1u32,
                module: __evented::module_path!(),
            }),
    );
};
#[doc(hidden)]
#[allow(non_local_definitions)]
#[macro_export]
macro_rules! two_events_have_this_id__give_one_an_id_of_its_own__OrderPlaced {
    () => {};
}
