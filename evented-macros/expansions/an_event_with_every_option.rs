#[derive(Serialize, Deserialize)]
pub struct PaymentCaptured {
    order_id: u64,
}
const _: () = {
    use ::evented::__private as __evented;
    #[automatically_derived]
    impl __evented::Event for PaymentCaptured {
        const ID: &'static __evented::str = "payments.captured";
        const VERSION: __evented::u32 = 2u32;
        type Delivery = __evented::Transactional;
        const ENCODE: __evented::Option<__evented::Encode<Self>> = {
            use __evented::encode_of::*;
            EncodeOf::<PaymentCaptured>::ENCODE
        };
        const EARLIER: &'static [__evented::Upcast<Self>] = &[
            |__evented_payload| {
                let __evented_earlier = <PaidV1 as __evented::Readable>::read(
                    __evented_payload,
                )?;
                __evented::Result::Ok(
                    <PaidV1 as __evented::EarlierVersion<
                        PaymentCaptured,
                    >>::upcast(__evented_earlier),
                )
            },
        ];
        fn slot() -> &'static __evented::Slot<Self> {
            static SLOT: __evented::Slot<PaymentCaptured> = __evented::Slot::new();
            &SLOT
        }
    }
    submit(
        __evented::EventDef::of::<PaymentCaptured>()
            .aliases(&["Paid"])
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
macro_rules! two_events_have_this_id__give_one_an_id_of_its_own__payments_dot_captured {
    () => {};
}
#[doc(hidden)]
#[allow(non_local_definitions)]
#[macro_export]
macro_rules! two_events_have_this_id__give_one_an_id_of_its_own__Paid {
    () => {};
}
::evented::seen_by_rust_analyzer! {
    event(transactional id aliases version from);
}
