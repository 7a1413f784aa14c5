//! What both expansions are made of.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::Attribute;

use crate::{args::Text, check, options::Common};

/// The crate whose items an expansion names, where `span` is if the user does not say which.
pub fn library(common: &Common, span: Span) -> TokenStream {
    common.library.clone().unwrap_or_else(|| quote_spanned!(span=> ::evented))
}

/// Where an error points that has no token of its own: the attribute.
pub fn attribute(item: &TokenStream) -> Span {
    let at = Span::call_site();
    item.clone().into_iter().next().map_or(at, |first| at.resolved_at(first.span()))
}

/// A span that points at the user's code, and counts as the macro's: no lint of the user's crate looks at it.
pub fn hidden(span: Span) -> Span {
    Span::mixed_site().located_at(span)
}

/// Where the item is. `line!` answers for the place of its own tokens, so they have the item's span itself.
pub fn place(item: &Ident) -> TokenStream {
    let line = quote_spanned!(item.span()=> __evented::line!());
    quote_spanned! {hidden(item.span())=>
        __evented::Place { file: __evented::file!(), line: #line, module: __evented::module_path!() }
    }
}

/// For what is marked `#[deprecated]`: that it is still registered is no use of it.
pub fn allow_deprecated(attrs: &[Attribute]) -> Option<TokenStream> {
    let deprecated = attrs.iter().any(|attr| attr.path().is_ident("deprecated"));
    deprecated.then(|| quote!(#[allow(deprecated)]))
}

/// `<ty as of>::member`, where an error that rustc finds points at `ty`.
pub fn on_type(ty: &TokenStream, of: &TokenStream, member: &str) -> TokenStream {
    let start = start(ty);
    let end = ty.clone().into_iter().last().map_or(start, |last| last.span());
    let member = Ident::new(member, end);
    let open = quote_spanned!(start=> <);
    let as_trait = quote_spanned!(hidden(start)=> as __evented::#of);
    let close = quote_spanned!(end=> >::);
    quote!(#open #ty #as_trait #close #member)
}

pub fn start(tokens: &TokenStream) -> Span {
    tokens.clone().into_iter().next().map_or_else(Span::call_site, |first| first.span())
}

/// One exported macro for each id that the attribute claims. Exported macros share one namespace in a crate, so rustc
/// reports an id that is claimed twice, with both places and the macro's name: that is all it says, so the name says what
/// to do.
pub fn guards(kind: &str, common: &Common, default: Option<&Ident>) -> TokenStream {
    let claimed = common.id.iter().chain(&common.aliases).map(|Text { text, span }| (text.clone(), *span));
    let default = default.filter(|_| common.id.is_none()).map(|name| (check::item_name(name), name.span()));
    claimed
        .chain(default)
        .map(|(id, span)| {
            let guard = format_ident!(
                "two_{kind}s_have_this_id__give_one_an_id_of_its_own__{}",
                as_identifier(&id),
                span = span
            );
            quote_spanned! {span=>
                #[doc(hidden)]
                #[allow(non_local_definitions)]
                #[macro_export]
                macro_rules! #guard {
                    () => {};
                }
            }
        })
        .collect()
}

/// An id as a part of an identifier. Different ids stay different: each character has its own spelling, and none is the
/// beginning of another.
fn as_identifier(id: &str) -> String {
    let mut identifier = String::new();
    for c in id.chars() {
        match c {
            '_' => identifier.push_str("__"),
            '.' => identifier.push_str("_dot_"),
            '-' => identifier.push_str("_dash_"),
            '/' => identifier.push_str("_slash_"),
            c => identifier.push(c),
        }
    }
    identifier
}
