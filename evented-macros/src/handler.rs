//! The expansion of `#[handler]`: the function itself, one shim that calls it, and its registration.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{
    Attribute, FnArg, Generics, ReturnType, Signature, Type, Visibility,
    parse::{Parse, ParseStream},
};

use crate::{
    args::{Errors, Text},
    check,
    options::{self, HandlerOptions},
    parts::{allow_deprecated, attribute, guards, hidden, library, on_type, place, start},
    route::{Backoff, Route, Stored},
};

/// A function, as far as the macro looks at it: its body stays tokens.
struct Function {
    attrs: Vec<Attribute>,
    sig: Signature,
}

impl Parse for Function {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        input.parse::<Visibility>()?;
        let sig = input.parse()?;
        input.parse::<TokenStream>()?;
        Ok(Self { attrs, sig })
    }
}

pub fn expand(args: TokenStream, item: &TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let mut registration = TokenStream::new();
    match syn::parse2::<Function>(item.clone()) {
        Ok(function) => {
            let Function { attrs, sig } = &function;
            let options = options::of_handler(args, attribute(item), &likely_event(sig), &mut errors);
            check::ids(&sig.ident, &options.common, &mut errors);
            if let Some(second) = check::repeated("handler", attrs) {
                let help = "= help: write a second function for this `#[handler]`";
                errors.at(second, format!("a function handles one event, on one route\n\n{help}"));
            } else if check::handler(sig, options.event.as_ref(), options.route.as_ref(), &mut errors)
                && let HandlerOptions { event: Some(event), route: Some(route), .. } = &options
            {
                registration = register(&function, event, route, &options);
            }
        }
        Err(_) => errors.on(attribute(item), "`#[handler]` marks a function"),
    }
    quote!(#item #registration #errors)
}

/// The event to name in a help text: the first argument's type, where that is a plain one.
fn likely_event(sig: &Signature) -> String {
    let mut ty = match sig.inputs.first() {
        Some(FnArg::Typed(first)) => &*first.ty,
        _ => return "OrderPlaced".to_owned(),
    };
    if let Type::Reference(reference) = ty {
        ty = &reference.elem;
    }
    match ty {
        Type::Path(path) if path.path.get_ident().is_some() => ty.to_token_stream().to_string(),
        _ => "OrderPlaced".to_owned(),
    }
}

/// The shim takes its arguments without waiting and hands the user's future on as it is: one `async` block less to
/// compile for each handler, and an error about a future that is not `Send` names the user's function.
fn register(function: &Function, event: &TokenStream, route: &Route, options: &HandlerOptions) -> TokenStream {
    let Function { attrs, sig } = function;
    let name = &sig.ident;
    let span = hidden(name.span());
    // In an `impl` an enum is one error, on the function's name, and rustc drops it with all that it holds. A `const _`
    // would stay, and fail to find the function. The library's macro writes the enum, for rustc to show that one's name.
    let holder = format_ident!("__evented_handler_{}", check::item_name(name), span = name.span());

    let holds = library(&options.common, name.span());
    let library = library(&options.common, Span::call_site());
    let shim = shim(sig, route);
    let checks = checks(event, route);
    let id = options.common.id.as_ref().map_or_else(|| quote!(None), |Text { text, .. }| quote!(Some(#text)));
    let function_name = check::item_name(name);
    let aliases = options.common.aliases.iter().map(|alias| &alias.text);
    let event_id = on_type(event, &quote!(Event), "ID");
    let call = call(event, route, sig.asyncness.is_some());
    let place = place(name);
    let guards = guards("handler", &options.common, None);
    let mut body = Group::new(
        Delimiter::Brace,
        quote_spanned! {span=>
            __Registration = {
                use #library::__private as __evented;
                type __EventedEvent = #event;
                #checks
                #shim
                __evented::inventory::submit! {
                    __evented::HandlerDef {
                        id: __evented::Option::#id,
                        name: #function_name,
                        aliases: &[#(#aliases),*],
                        event: #event_id,
                        event_type: __evented::TypeId::of::<__EventedEvent>,
                        needs: __EVENTED_SHIM.1,
                        call: #call,
                        place: #place,
                    }
                }
                #guards
                0
            }
        },
    );
    body.set_span(name.span());
    let allow = allow_deprecated(attrs);
    let mut registration = Group::new(Delimiter::Brace, quote_spanned!(span=> #allow #holder #body));
    registration.set_span(name.span());
    quote_spanned!(name.span()=> #holds::a_handler_is_a_free_function__move_it_out_of_the_impl! #registration)
}

/// What evented calls, and what `run()` asks before that. The first function takes the arguments, calls the user's
/// function, and brings what that returns to one shape; the second says what the first will look for. Both are closures of
/// one constant, which rustc checks as one body: it says once of an argument that it cannot be one.
fn shim(sig: &Signature, route: &Route) -> TokenStream {
    let name = &sig.ident;
    let span = hidden(name.span());
    let is_async = sig.asyncness.is_some();
    let (received, source) = match route {
        Route::InProcess | Route::InTransaction => (quote!(&'a __EventedEvent), quote_spanned!(span=> __evented_event)),
        Route::Background(_) | Route::Outbox(_) => (
            quote!(&'a mut (dyn __evented::Any + __evented::Send)),
            quote_spanned!(span=> __evented::decoded::<__EventedEvent>(__evented_event)),
        ),
    };
    let marker = marker(sig, route);
    let values = argument_types(sig).enumerate().map(|(position, ty)| {
        let span = hidden(start(&ty));
        if position == 0 {
            let from_source = on_type(&ty, &quote!(EventArg<'_, __EventedEvent, #marker>), "from_source");
            return quote_spanned!(span=> #from_source(#source));
        }
        let take = on_type(&ty, &handler_arg(sig, route), "take");
        if !is_async {
            return quote_spanned!(span=> #take(__evented_context)?);
        }
        quote_spanned! {span=>
            match #take(__evented_context) {
                __evented::Result::Ok(__evented_value) => __evented_value,
                __evented::Result::Err(__evented_error) => return __evented::refuse(__evented_error),
            }
        }
    });
    // rustc shows the call, from the name to the parentheses, where the future is not `Send`.
    let mut values = Group::new(Delimiter::Parenthesis, quote_spanned!(span=> #(#values),*));
    values.set_span(name.span());
    let output = match &sig.output {
        ReturnType::Default => quote_spanned!(span=> ()),
        ReturnType::Type(_, ty) => without_lifetimes(ty.to_token_stream(), &sig.generics),
    };
    let into_result = on_type(&output, &quote!(HandlerOutput), "into_result");
    let (result, body) = if is_async {
        (quote!(__evented::Running<'a>), quote_spanned!(span=> __evented::run_async(#name #values, #into_result)))
    } else {
        (quote!(__evented::HandlerResult), quote_spanned!(span=> #into_result(#name #values)))
    };
    let needs = argument_types(sig).skip(1).map(|ty| on_type(&ty, &handler_arg(sig, route), "needs"));
    quote_spanned! {span=>
        const __EVENTED_SHIM: (
            for<'a> fn(#received, &mut __evented::Context<'a>) -> #result,
            fn(&mut __evented::Needs),
        ) = (
            |__evented_event, __evented_context| #body,
            |__evented_needs| { #(#needs(__evented_needs);)* },
        );
    }
}

/// The arguments' types as they can be written in an expression: the function's own lifetimes are left to inference.
fn argument_types(sig: &Signature) -> impl Iterator<Item = TokenStream> {
    sig.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(arg) => Some(without_lifetimes(arg.ty.to_token_stream(), &sig.generics)),
        FnArg::Receiver(_) => None,
    })
}

fn without_lifetimes(ty: TokenStream, generics: &Generics) -> TokenStream {
    let mut after_tick = false;
    let infer = |token| match token {
        TokenTree::Ident(name) if std::mem::take(&mut after_tick) => {
            let own = generics.lifetimes().any(|param| param.lifetime.ident == name);
            TokenTree::Ident(if own { Ident::new("_", name.span()) } else { name })
        }
        TokenTree::Group(group) => {
            let mut inferred = Group::new(group.delimiter(), without_lifetimes(group.stream(), generics));
            inferred.set_span(group.span());
            TokenTree::Group(inferred)
        }
        token => {
            after_tick = matches!(&token, TokenTree::Punct(tick) if tick.as_char() == '\'');
            token
        }
    };
    ty.into_iter().map(infer).collect()
}

/// The type that stands for the route where arguments are checked.
fn marker(sig: &Signature, route: &Route) -> TokenStream {
    let marker = match route {
        Route::InProcess => quote!(InProcess),
        Route::InTransaction => quote!(InTransaction),
        Route::Background(_) | Route::Outbox(_) if sig.asyncness.is_none() => quote!(Blocking),
        Route::Background(_) => quote!(Background),
        Route::Outbox(_) => quote!(Outbox),
    };
    quote!(__evented::#marker)
}

fn handler_arg(sig: &Signature, route: &Route) -> TokenStream {
    let marker = marker(sig, route);
    quote!(HandlerArg<'_, #marker>)
}

/// What the route asks of the event. Each check hangs on the event's `Delivery`, so that a type which is no event has
/// that one error.
fn checks(event: &TokenStream, route: &Route) -> TokenStream {
    let check = match route {
        Route::InProcess => quote!(HandledInProcess<__EventedEvent>),
        Route::InTransaction => quote!(HandledInTransaction<__EventedEvent>),
        Route::Background(_) => return TokenStream::new(),
        Route::Outbox(_) => quote!(HandledByOutbox<__EventedEvent>),
    };
    let check = on_type(&on_type(event, &quote!(Event), "Delivery"), &check, "CHECK");
    quote!(const _: () = #check;)
}

/// How the registry calls the shim.
fn call(event: &TokenStream, route: &Route, is_async: bool) -> TokenStream {
    let (route, stored) = match route {
        Route::InProcess => (quote!(InProcess), None),
        Route::InTransaction => (quote!(InTransaction), None),
        Route::Background(stored) => (quote!(Background), Some(stored)),
        Route::Outbox(stored) => (quote!(Outbox), Some(stored)),
    };
    let Some(stored) = stored else {
        let kind = if is_async { quote!(Async) } else { quote!(Sync) };
        return quote! {
            __evented::Call::#route(&__evented::InProcessCall::<__EventedEvent>::#kind(__EVENTED_SHIM.0))
        };
    };
    let kind = if is_async { quote!(Async) } else { quote!(Blocking) };
    let queue = stored.queue.as_deref().unwrap_or("default");
    let policy = policy(stored);
    let decode = on_type(&on_type(event, &quote!(Event), "Delivery"), &quote!(Stored<__EventedEvent>), "DECODE");
    quote! {
        __evented::Call::#route {
            queue: #queue,
            policy: #policy,
            decode: #decode,
            call: __evented::StoredCall::#kind(__EVENTED_SHIM.0),
        }
    }
}

/// Only what the attribute says: the rest stays evented's default.
fn policy(stored: &Stored) -> TokenStream {
    let duration = |millis: &u64| quote!(__evented::Duration::from_millis(#millis));
    let retries = stored.retries.iter().map(|retries| quote!(.retries(#retries)));
    let backoff = stored.backoff.iter().map(|backoff| match backoff {
        Backoff::Doubling { first, max } => {
            let (first, max) = (duration(first), duration(max));
            quote!(.backoff(#first, #max))
        }
        Backoff::Fixed(delay) => {
            let delay = duration(delay);
            quote!(.backoff_fixed(#delay))
        }
    });
    let timeout = stored.timeout.iter().map(duration).map(|timeout| quote!(.timeout(#timeout)));
    quote!(__evented::Policy::DEFAULT #(#retries)* #(#backoff)* #(#timeout)*)
}
