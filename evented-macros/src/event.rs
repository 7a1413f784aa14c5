//! The expansion of `#[event]`: the type itself, its `Event`, and its registration.

use proc_macro2::{Delimiter, Group, Ident, TokenStream};
use quote::{quote, quote_spanned};
use syn::{
    Attribute, Generics, Token, Visibility,
    parse::{Parse, ParseStream},
};

use crate::{
    args::Errors,
    check,
    options::{self, EventOptions},
    parts::{allow_deprecated, attribute, guards, hidden, library, place},
};

/// A struct or an enum, as far as the macro looks at it.
struct Type {
    attrs: Vec<Attribute>,
    name: Ident,
    generics: Generics,
}

impl Parse for Type {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        input.parse::<Visibility>()?;
        if input.peek(Token![struct]) {
            input.parse::<Token![struct]>()?;
        } else {
            input.parse::<Token![enum]>()?;
        }
        let (name, generics) = (input.parse()?, input.parse()?);
        input.parse::<TokenStream>()?;
        Ok(Self { attrs, name, generics })
    }
}

pub fn expand(args: TokenStream, item: &TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let options = options::of_event(args, &mut errors);
    let event = syn::parse2::<Type>(item.clone()).ok().map(|event| implement(&event, &options, &mut errors));
    if event.is_none() {
        errors.on(attribute(item), "`#[event]` marks a `struct` or an `enum`");
    }
    quote!(#item #event #errors)
}

/// In error too, the type is an event: its uses must not become errors of their own.
fn implement(event: &Type, options: &EventOptions, errors: &mut Errors) -> TokenStream {
    if let Some(second) = check::repeated("event", &event.attrs) {
        errors.at(second, "a type is declared an event once\n\n= help: remove this `#[event]`");
        return TokenStream::new();
    }
    check::ids(&event.name, &options.common, errors);
    check::event(&event.name, &event.generics, errors);

    let Type { name, generics, .. } = event;
    let span = hidden(name.span());
    let library = library(&options.common, span);
    let default_id = check::item_name(name);
    let id = options.common.id.as_ref().map_or(&default_id, |id| &id.text);
    let (delivery, transactional) =
        if options.transactional { (quote!(Transactional), true) } else { (quote!(Immediate), false) };

    if errors.count() > 0 {
        let (generics, arguments, _) = generics.split_for_impl();
        return quote_spanned! {span=>
            const _: () = {
                use #library::__private as __evented;
                impl #generics __evented::Event for #name #arguments
                where
                    Self: __evented::Send + __evented::Sync + 'static,
                {
                    const ID: &'static __evented::str = #id;
                    type Delivery = __evented::#delivery;
                    const ENCODE: __evented::Option<__evented::Encode<Self>> = __evented::Option::None;
                    fn slot() -> &'static __evented::Slot<Self> {
                        loop {}
                    }
                }
            };
        };
    }

    let aliases = options.common.aliases.iter().map(|alias| &alias.text);
    let place = place(name);
    let guards = guards("event", &options.common, Some(name));
    // Where rustc lists the types that are events, the span of the `impl` shows: it is the user's, not the macro's.
    let implement = Ident::new("impl", name.span());
    let mut members = Group::new(
        Delimiter::Brace,
        quote_spanned! {span=>
            const ID: &'static __evented::str = #id;
            type Delivery = __evented::#delivery;
            const ENCODE: __evented::Option<__evented::Encode<Self>> = __EVENTED_ENCODE;
            fn slot() -> &'static __evented::Slot<Self> {
                static SLOT: __evented::Slot<#name> = __evented::Slot::new();
                &SLOT
            }
        },
    );
    members.set_span(name.span());
    let allow = allow_deprecated(&event.attrs);
    quote_spanned! {span=>
        #allow
        const _: () = {
            use #library::__private as __evented;
            const __EVENTED_ENCODE: __evented::Option<__evented::Encode<#name>> = {
                use __evented::encode_of::*;
                EncodeOf::<#name>::ENCODE
            };
            #[automatically_derived]
            #implement __evented::Event for #name #members
            __evented::inventory::submit! {
                __evented::EventDef {
                    id: #id,
                    aliases: &[#(#aliases),*],
                    transactional: #transactional,
                    storable: __EVENTED_ENCODE.is_some(),
                    place: #place,
                    type_id: __evented::TypeId::of::<#name>,
                }
            }
        };
        #guards
    }
}
