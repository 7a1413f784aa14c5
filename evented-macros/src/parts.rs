//! What both expansions are made of.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::Attribute;

use crate::{
    args::{Arg, Text},
    check,
    options::{self, Common},
};

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

/// Where the item is. The compiler says it here, once, which is cheaper than three macros for each item to expand.
pub fn place(item: &Ident) -> TokenStream {
    let (file, line) = position(item);
    quote_spanned! {hidden(item.span())=>
        __evented::Place { file: #file, line: #line, module: __evented::module_path!() }
    }
}

/// The file and the line of a name; of no file, where no compiler runs the macro.
pub fn position(item: &Ident) -> (String, u32) {
    if !proc_macro::is_available() {
        return ("src/lib.rs".to_owned(), 1);
    }
    let span = Span::unwrap(item.span());
    (span.file(), u32::try_from(span.line()).unwrap_or(0))
}

/// What rust-analyzer completes and explains in the attribute's list: the names in each list of options, and the event. The
/// library's macro makes something of it for rust-analyzer alone; few tokens, since the compiler reads them too.
pub fn completions(args: &TokenStream, attribute: &str, library: &TokenStream) -> TokenStream {
    let span = Span::mixed_site();
    let mut args = Arg::list(args.clone());
    let event = match args.first() {
        Some(Arg::Word(name)) if attribute == "event" || options::is_option(&name.to_string()) => None,
        Some(Arg::Word(_) | Arg::Bare(_)) => Some(args.remove(0).into_token_stream()),
        _ => None,
    };
    let event = event.filter(|event| syn::parse2::<syn::Type>(event.clone()).is_ok());
    let mut lists = TokenStream::new();
    complete(&args, attribute, &mut lists);
    if event.is_none() && lists.is_empty() {
        return TokenStream::new();
    }
    quote_spanned!(span=> #library::seen_by_rust_analyzer! { #lists; #event })
}

/// `list(name ..)`, and one more for each list in it.
fn complete(args: &[Arg], list: &str, lists: &mut TokenStream) {
    let names: Vec<_> = args.iter().filter_map(Arg::name).filter(|name| *name != "crate").collect();
    if names.is_empty() {
        return;
    }
    let list = Ident::new(list, Span::mixed_site());
    lists.extend(quote!(#list(#(#names)*)));
    for arg in args {
        match arg {
            Arg::List(name, options) if LISTS.iter().any(|list| name == list) => {
                complete(options, &name.to_string(), lists);
            }
            _ => {}
        }
    }
}

/// The options that have a list of options.
const LISTS: &[&str] = &["in_process", "background", "outbox", "backoff", "unique"];

/// For what is marked `#[deprecated]`, or is of an event that is: that it is registered is no use of it. Where neither is in
/// sight, no lint is asked.
pub fn allow_deprecated(attrs: &[Attribute]) -> Option<TokenStream> {
    let deprecated = attrs.iter().any(|attr| attr.to_token_stream().to_string().contains("deprecated"));
    deprecated.then(|| quote!(#[allow(deprecated)]))
}

/// `<ty as of>::member`, where an error that rustc finds points at `ty`.
pub fn on_type(ty: &TokenStream, of: &TokenStream, member: &str) -> TokenStream {
    OnType::new(ty, of).member(member)
}

/// `<ty as of>::`, of which several members are named. The tokens of every argument pass here, so no token is made twice.
pub struct OnType {
    path: TokenStream,
    end: Span,
}

impl OnType {
    pub fn new(ty: &TokenStream, of: &TokenStream) -> Self {
        let (mut start, mut end) = (None, Span::call_site());
        for token in ty.clone() {
            end = token.span();
            start.get_or_insert(end);
        }
        let start = start.unwrap_or(end);
        let mut path = quote_spanned!(start=> <);
        path.extend(ty.clone());
        path.extend(quote_spanned!(hidden(start)=> as __evented::#of));
        path.extend(quote_spanned!(end=> >::));
        Self { path, end }
    }

    pub fn member(&self, member: &str) -> TokenStream {
        let mut path = self.path.clone();
        path.extend([TokenTree::Ident(Ident::new(member, self.end))]);
        path
    }
}

pub fn start(tokens: &TokenStream) -> Span {
    tokens.clone().into_iter().next().map_or_else(Span::call_site, |first| first.span())
}

/// One exported macro for each id that the attribute claims. Exported macros share one namespace in a crate, so rustc
/// reports an id that is claimed twice, with both places and the macro's name: that is all it says, so the name says what
/// to do.
pub fn guards(kind: &str, common: &Common) -> TokenStream {
    let claimed = common.id.iter().chain(&common.aliases);
    let guards = claimed.map(|Text { text, span }| {
        guard(&format!("two_{kind}s_have_this_id__give_one_an_id_of_its_own__{}", as_identifier(text)), *span)
    });
    guards.collect()
}

/// The same for an event whose id is its type's name.
pub fn guard_of_type(name: &Ident) -> TokenStream {
    let id = as_identifier(&check::item_name(name));
    guard(&format!("two_events_have_this_id__give_one_an_id_of_its_own__{id}"), name.span())
}

fn guard(name: &str, span: Span) -> TokenStream {
    let name = Ident::new(name, span);
    quote_spanned! {span=>
        #[doc(hidden)]
        #[allow(non_local_definitions)]
        #[macro_export]
        macro_rules! #name {
            () => {};
        }
    }
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
