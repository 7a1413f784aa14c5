//! The expansion of `#[event]`: the type itself, its `Event`, and its registration.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{
    Attribute, Generics, Visibility,
    ext::IdentExt,
    parse::{Parse, ParseStream},
};

use crate::{
    args::Errors,
    check,
    options::{self, EventOptions},
    parts::{allow_deprecated, attribute, completions, guard_of_type, guards, hidden, library, on_type, place},
};

/// A type, as far as the macro looks at it.
struct Type {
    attrs: Vec<Attribute>,
    keyword: Ident,
    name: Ident,
    generics: Generics,
}

impl Parse for Type {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        input.parse::<Visibility>()?;
        let keyword = input.call(Ident::parse_any)?;
        if !["struct", "enum", "union"].iter().any(|known| keyword == known) {
            return Err(input.error("expected a type"));
        }
        // What follows may be half typed.
        let (name, generics) = (input.parse()?, input.parse().unwrap_or_default());
        input.parse::<TokenStream>()?;
        Ok(Self { attrs, keyword, name, generics })
    }
}

pub fn expand(args: TokenStream, item: &TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let listed = args.clone();
    let options = options::of_event(args, &mut errors);
    let completions = completions(&listed, "event", &library(&options.common, Span::mixed_site()));
    let event = syn::parse2::<Type>(item.clone()).ok().map(|event| implement(&event, &options, &mut errors));
    if event.is_none() {
        let (what, help) = check::other_item(item, "fn", "a function is marked `#[handler(OrderPlaced)]`");
        errors.on(attribute(item), format!("`#[event]` marks a `struct` or an `enum`{what}{help}"));
    }
    quote!(#item #event #completions #errors)
}

/// In error too, the type is an event: its uses must not become errors of their own.
fn implement(event: &Type, options: &EventOptions, errors: &mut Errors) -> TokenStream {
    if let Some(second) = check::repeated("event", &event.attrs) {
        errors.at(second, "a type is declared an event once\n\n= help: remove this `#[event]`");
        return TokenStream::new();
    }
    check::ids(&event.name, &options.common, errors);
    if event.keyword == "union" {
        errors.at(
            &event.keyword,
            "an event is a `struct` or an `enum`: which field of a union is valid, nobody could tell",
        );
    }
    check::event(&event.name, &event.generics, errors);
    if let Some(own) = options.from.iter().find(|ty| event.name == ty.to_string()) {
        errors.at(own, format!("`{}` is the event itself, and no earlier version of it", event.name));
    }

    let Type { name, generics, .. } = event;
    let span = hidden(name.span());
    let library = library(&options.common, span);
    let default_id = check::item_name(name);
    let id = options.common.id.as_ref().map_or(&default_id, |id| &id.text);
    let delivery = if options.transactional { quote!(Transactional) } else { quote!(Immediate) };

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
                    fn slot() -> &'static __evented::Slot<Self> {
                        loop {}
                    }
                }
            };
        };
    }

    let aliases = options.common.aliases.iter().map(|alias| &alias.text).collect::<Vec<_>>();
    let aliases = (!aliases.is_empty()).then(|| quote!(.aliases(&[#(#aliases),*])));
    let place = place(name);
    let guards = guards("event", &options.common);
    let guard = options.common.id.is_none().then(|| guard_of_type(name));
    let version = options.version.map(|version| quote_spanned!(span=> const VERSION: __evented::u32 = #version;));
    let earlier = earlier(name, &options.from);
    // Where rustc lists the types that are events, the span of the `impl` shows: it is the user's, not the macro's.
    let implement = Ident::new("impl", name.span());
    let mut members = Group::new(
        Delimiter::Brace,
        quote_spanned! {span=>
            const ID: &'static __evented::str = #id;
            #version
            type Delivery = __evented::#delivery;
            const ENCODE: __evented::Option<__evented::Encode<Self>> = {
                use __evented::encode_of::*;
                EncodeOf::<#name>::ENCODE
            };
            #earlier
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
            #[automatically_derived]
            #implement __evented::Event for #name #members
            __evented::inventory::submit! { __evented::EventDef::of::<#name>() #aliases .at(#place) }
        };
        #guards
        #guard
    }
}

/// How payloads of earlier versions are read: each becomes its own type first, then the event.
fn earlier(name: &Ident, from: &[TokenStream]) -> Option<TokenStream> {
    let span = hidden(name.span());
    let upcast = from.iter().map(|ty| {
        let read = on_type(ty, &quote!(Readable), "read");
        let upcast = on_type(ty, &quote!(EarlierVersion<#name>), "upcast");
        quote_spanned! {span=>
            |__evented_payload| {
                let __evented_earlier = #read(__evented_payload)?;
                __evented::Result::Ok(#upcast(__evented_earlier))
            }
        }
    });
    (!from.is_empty())
        .then(|| quote_spanned!(span=> const EARLIER: &'static [__evented::Upcast<Self>] = &[#(#upcast),*];))
}
