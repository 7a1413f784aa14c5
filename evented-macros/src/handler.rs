//! The expansion of `#[handler]`: the function itself, one shim that calls it, and its registration.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{
    Attribute, FnArg, Generics, PatType, ReturnType, Signature, Type, Visibility,
    parse::{Parse, ParseStream},
};

use crate::{
    args::{Errors, Text},
    check,
    options::{self, Common, HandlerOptions},
    parts::{
        OnType, allow_deprecated, attribute, completions, guards, hidden, library, on_type, place, position, start,
    },
    route::{Backoff, Route, Stored},
    terms::{Field, Priority, Unique},
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
        // Nothing, or the semicolon of a function without a body.
        input.parse::<TokenStream>()?;
        Ok(Self { attrs, sig })
    }
}

pub fn expand(args: TokenStream, item: &TokenStream) -> TokenStream {
    let mut item = item.clone();
    let mut errors = Errors::default();
    let mut registration = TokenStream::new();
    let function = syn::parse2::<Function>(without_body(&item));
    if function.is_err() && check::is_statement(&item) {
        // rustc has its own text about attributes on those.
        return item;
    } else if function.is_err() && !check::is_function(&item) {
        let (what, help) = check::other_item(&item, "struct", "an event is marked `#[event]`");
        errors.on(attribute(&item), format!("`#[handler]` marks a function{what}{help}"));
        return quote!(#item #errors);
    }
    let example = function.as_ref().map_or_else(|_| "OrderPlaced".to_owned(), |function| likely_event(&function.sig));
    let options = options::of_handler(args.clone(), attribute(&item), &example, &mut errors);
    if matches!(&function, Ok(function) if function.sig.variadic.is_some()) {
        item = check::without_variadic(&item);
    }
    if matches!(&function, Ok(function) if check::has_state_pattern(&function.sig)) {
        item = check::without_state_patterns(&item);
    }
    // One that is half typed has no more mistakes than that: whoever reads it as Rust says what is missing.
    if let Ok(function) = &function {
        let Function { attrs, sig } = function;
        check::ids(&sig.ident, &options.common, &mut errors);
        if let Some(second) = check::repeated("handler", attrs) {
            let help = "= help: write a second function for this `#[handler]`";
            errors.at(second, format!("a function handles one event, on one route\n\n{help}"));
            item = check::without_repeated("handler", &item);
        } else if let Some(kind) = check::entry_point(&sig.ident, attrs, &mut errors) {
            item = check::without_repeated(kind, &item);
        } else if let Some(attribute) = check::runtime(sig, &item) {
            let (name, why) = (check::item_name(&sig.ident), check::STARTS_A_RUNTIME);
            errors.on(attribute, format!("handler `{name}` must {why}\n\n= help: remove this attribute"));
        } else if check::handler(sig, options.event.as_ref(), options.route.as_ref(), &mut errors)
            && let HandlerOptions { event: Some(event), route: Some(route), .. } = &options
        {
            registration = register(function, event, route, &options);
        }
    }
    let completions = completions(&args, "handler", &library(&options.common, Span::mixed_site()));
    quote!(#item #registration #completions #errors)
}

/// Parsing looks into every group, and a function's body can be long.
fn without_body(item: &TokenStream) -> TokenStream {
    let mut tokens: Vec<_> = item.clone().into_iter().collect();
    tokens.pop_if(|last| matches!(last, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace));
    tokens.into_iter().collect()
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

/// One registration, held by a `struct`, in the length of an array. Where there can be no struct, in an `impl`, rustc drops
/// it with all that it holds: one error, on the function's name. A `const _` would stay, and fail to find the function. The
/// library's macro writes the struct, for rustc to show that one's name.
fn register(function: &Function, event: &TokenStream, route: &Route, options: &HandlerOptions) -> TokenStream {
    let Function { attrs, sig } = function;
    let name = &sig.ident;
    let span = hidden(name.span());
    // The line, for a second function of this name in the module to be rustc's error about the function alone.
    let line = position(name).1;
    let holder = format_ident!("__evented_handler_{}_{}", check::item_name(name), line, span = name.span());

    let holds = library(&options.common, name.span());
    let library = library(&options.common, Span::call_site());
    let def = def(sig, event, route, &options.common);
    // A default id is made of the event's, which is not known here: that two are the same, `run()` says.
    let guards = guards("handler", &options.common);
    let keys = keys(route);
    let mut held = Group::new(
        Delimiter::Brace,
        quote_spanned! {span=>
            use #library::__private as __evented;
            type __EventedEvent = #event;
            __evented::inventory::submit! { __evented::MakeHandler(|| #def) }
            #guards
            #keys
            0
        },
    );
    held.set_span(name.span());
    let allow = allow_deprecated(attrs);
    let mut registration = Group::new(Delimiter::Brace, quote_spanned!(span=> #allow #holder #held));
    registration.set_span(name.span());
    quote_spanned!(name.span()=> #holds::a_handler_is_a_free_function__move_it_out_of_the_impl! #registration)
}

/// The registration, as `HandlerDef`'s own functions would make it. They have bounds; what the route asks of the event hangs
/// on the event's `Delivery` here, so that a type which is no event has that one error.
fn def(sig: &Signature, event: &TokenStream, route: &Route, common: &Common) -> TokenStream {
    let span = hidden(sig.ident.span());
    let name = check::item_name(&sig.ident);
    let id = common.id.as_ref().map_or_else(|| quote!(None), |Text { text, .. }| quote!(Some(#text)));
    let aliases = common.aliases.iter().map(|alias| &alias.text);
    let as_event = OnType::new(event, &quote!(Event));
    let (event_id, version) = (as_event.member("ID"), as_event.member("VERSION"));
    let args: Vec<_> = args(sig, route).collect();
    let needs = args.iter().map(|Arg { cfgs, path, .. }| {
        let needs = path.member("needs");
        quote!(#cfgs #needs)
    });
    let call = call(sig, &as_event.member("Delivery"), route, &args);
    let place = place(&sig.ident);
    quote_spanned! {span=>
        __evented::HandlerDef {
            id: __evented::Option::#id,
            name: #name,
            aliases: &[#(#aliases),*],
            event: #event_id,
            event_type: __evented::TypeId::of::<__EventedEvent>,
            version: #version,
            needs: &[#(#needs),*],
            call: __evented::Call::#call,
            place: #place,
        }
    }
}

fn call(sig: &Signature, delivery: &TokenStream, route: &Route, args: &[Arg]) -> TokenStream {
    let span = hidden(sig.ident.span());
    let kind = if sig.asyncness.is_some() { quote!(Async) } else { quote!(Plain) };
    let shim = shim(sig, route, args);
    let check = |of: TokenStream| on_type(delivery, &quote!(#of<__EventedEvent>), "CHECK");
    let (route, check, stored) = match route {
        Route::InProcess => (quote!(InProcess), check(quote!(HandledInProcess)), None),
        Route::InTransaction => (quote!(InTransaction), check(quote!(HandledInTransaction)), None),
        Route::Background(stored) => (quote!(Background), quote!(()), Some(stored)),
        Route::Outbox(stored) => (quote!(Outbox), check(quote!(HandledByOutbox)), Some(stored)),
    };
    let Some(stored) = stored else {
        return quote_spanned!(span=> #route(&__evented::InProcessCall::<__EventedEvent>::#kind(#shim), #check));
    };
    let decode = on_type(delivery, &quote!(Stored<__EventedEvent>), "DECODE");
    let queue = stored.queue.as_deref().unwrap_or("default");
    let (policy, terms) = (policy(stored), terms(stored));
    quote_spanned! {span=>
        #route(
            __evented::Stores {
                queue: #queue,
                policy: __evented::Policy::DEFAULT #policy,
                terms: __evented::Terms::DEFAULT #terms,
                decode: #decode,
                call: &__evented::StoredCall::<__EventedEvent>::#kind(#shim),
            },
            #check
        )
    }
}

/// What evented calls. It takes the arguments without waiting, and hands the user's future on as it is: one `async` block
/// less to compile for each handler, and an error about a future that is not `Send` names the user's function. It stands in
/// the body that also says what the arguments need, so that rustc says once of an argument that it cannot be one.
fn shim(sig: &Signature, route: &Route, args: &[Arg]) -> TokenStream {
    let name = &sig.ident;
    let span = hidden(name.span());
    let is_async = sig.asyncness.is_some();
    let refuse = Ident::new(if is_async { "refuse" } else { "refuse_sync" }, span);
    let event = sig.inputs.iter().take(1).filter_map(|input| argument_type(input, &sig.generics)).map(|ty| {
        let marker = marker(sig, route);
        let from_source = on_type(&ty, &quote!(EventArg<'_, __EventedEvent, #marker>), "from_source");
        quote_spanned!(hidden(start(&ty))=> #from_source(__evented_event))
    });
    let others = args.iter().map(|Arg { cfgs, path, span }| {
        let take = path.member("take");
        quote_spanned! {*span=>
            #cfgs
            match #take(__evented_context) {
                __evented::Result::Ok(__evented_value) => __evented_value,
                __evented::Result::Err(__evented_error) => return __evented::#refuse(__evented_error),
            }
        }
    });
    let values = event.chain(others);
    // rustc shows the call, from the name to the parentheses, where the future is not `Send`.
    let mut values = Group::new(Delimiter::Parenthesis, quote_spanned!(span=> #(#values),*));
    values.set_span(name.span());
    let output = match &sig.output {
        ReturnType::Default => quote_spanned!(span=> ()),
        ReturnType::Type(_, ty) => without_lifetimes(ty.to_token_stream(), &sig.generics),
    };
    let into_result = on_type(&output, &quote!(HandlerOutput), "into_result");
    let body = if is_async {
        quote_spanned!(span=> __evented::run_async(#name #values, #into_result))
    } else {
        quote_spanned!(span=> #into_result(#name #values))
    };
    quote_spanned!(span=> |__evented_event, __evented_context| #body)
}

/// An argument after the event: `<its type as HandlerArg<..>>::`, and where it stands.
struct Arg {
    /// The `#[cfg]`s that say whether it is there.
    cfgs: TokenStream,
    path: OnType,
    span: Span,
}

fn args(sig: &Signature, route: &Route) -> impl Iterator<Item = Arg> {
    let marker = marker(sig, route);
    let of = quote!(HandlerArg<'_, #marker>);
    sig.inputs.iter().skip(1).filter_map(move |input| {
        let FnArg::Typed(PatType { attrs, .. }) = input else { return None };
        let cfgs = attrs.iter().filter(|attr| check::is_cfg(attr));
        let ty = argument_type(input, &sig.generics)?;
        Some(Arg { cfgs: quote!(#(#cfgs)*), path: OnType::new(&ty, &of), span: hidden(start(&ty)) })
    })
}

/// An argument's type as it can be written in an expression: the function's own lifetimes are left to inference.
fn argument_type(input: &FnArg, generics: &Generics) -> Option<TokenStream> {
    match input {
        FnArg::Typed(arg) => Some(without_lifetimes(arg.ty.to_token_stream(), generics)),
        FnArg::Receiver(_) => None,
    }
}

fn without_lifetimes(ty: TokenStream, generics: &Generics) -> TokenStream {
    if generics.lifetimes().next().is_none() {
        return ty;
    }
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

/// Only what the attribute says: the rest stays evented's default.
fn policy(stored: &Stored) -> TokenStream {
    let retries = stored.retries.iter().map(|retries| quote!(.retries(#retries)));
    let backoff = stored.backoff.iter().map(|backoff| match backoff {
        Backoff::Doubling { first, max } => {
            let (first, max) = (duration(*first), duration(*max));
            quote!(.backoff(#first, #max))
        }
        Backoff::Fixed(delay) => {
            let delay = duration(*delay);
            quote!(.backoff_fixed(#delay))
        }
    });
    let timeout = stored.timeout.map(duration).into_iter().map(|timeout| quote!(.timeout(#timeout)));
    retries.chain(backoff).chain(timeout).collect()
}

fn terms(stored: &Stored) -> TokenStream {
    let terms = &stored.terms;
    let priority = terms.priority.iter().map(|priority| match priority {
        Priority::High => quote!(.priority(__evented::Priority::High)),
        Priority::Normal => quote!(.priority(__evented::Priority::Normal)),
        Priority::Low => quote!(.priority(__evented::Priority::Low)),
    });
    let concurrency = terms.concurrency.iter().map(|concurrency| quote!(.concurrency(#concurrency)));
    let unique = terms.unique.iter().map(|Unique { key: Field { name, .. }, within }| {
        let within = duration(*within);
        quote!(.unique(#name, #within))
    });
    let ordered_by = terms.ordered_by.iter().map(|Field { name, .. }| quote!(.ordered_by(#name)));
    priority.chain(concurrency).chain(unique).chain(ordered_by).collect()
}

fn duration(millis: u64) -> TokenStream {
    quote!(__evented::Duration::from_millis(#millis))
}

/// That the event has the fields which are keys: their names stand in quotes, where rustc looks for none. A closure that
/// nobody calls is checked, and no code is made of it. The name has the user's span: rustc would not list the fields that
/// there are for a name of the macro's.
fn keys(route: &Route) -> TokenStream {
    let (Route::Background(stored) | Route::Outbox(stored)) = route else { return TokenStream::new() };
    let keys = stored.terms.fields().map(|field| {
        let name = field.ident();
        quote_spanned!(hidden(field.span)=> let _ = __evented_event.#name;)
    });
    let keys: TokenStream = keys.collect();
    if keys.is_empty() {
        return keys;
    }
    quote_spanned!(Span::mixed_site()=> let _ = |__evented_event: __EventedEvent| { #keys };)
}
