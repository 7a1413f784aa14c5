//! The rules of what is marked: which types can be events, and which functions handlers.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{
    Attribute, FnArg, GenericArgument, GenericParam, Generics, Pat, PatTupleStruct, PatType, PathArguments,
    PathSegment, ReturnType, Safety, Signature, Type, TypeReference,
};

use crate::{args::Errors, forms::is_name, options::Common, route::Route};

/// An event is one type, and owns its data.
pub fn event(name: &Ident, generics: &Generics, errors: &mut Errors) {
    let params = &generics.params;
    if params.iter().any(|param| matches!(param, GenericParam::Lifetime(_))) {
        let help = "= help: replace borrowed fields by owned ones, like `String`";
        let why = "it may outlive the call that emits it";
        errors.at(params, format!("event `{name}` must own its data: {why}\n\n{help}"));
    } else if params.iter().all(|param| matches!(param, GenericParam::Const(_))) && !params.is_empty() {
        let help = "= help: make the value a field";
        errors.at(params, format!("event `{name}` must not be generic: its id names one type\n\n{help}"));
    } else if !params.is_empty() {
        let help = "= help: declare one event for each type";
        errors.at(params, format!("event `{name}` must not be generic: its id names one type\n\n{help}"));
    }
}

/// A handler is a free function that can be called with one event and what `run()` has. `event` and `route` are the
/// attribute's.
///
/// False if the function breaks that: then it cannot be called.
pub fn handler(sig: &Signature, event: Option<&TokenStream>, route: Option<&Route>, errors: &mut Errors) -> bool {
    let errors_before = errors.count();
    let mut must = |at: &dyn ToTokens, rule: &str| {
        errors.at(&at.to_token_stream(), format!("handler `{}` must {rule}", item_name(&sig.ident)));
    };
    if let Some(token) = &sig.constness {
        must(token, "not be `const`");
    }
    if let Safety::Unsafe(token) = &sig.safety {
        must(token, "not be `unsafe`: evented calls it");
    }
    if let Some(abi) = &sig.abi {
        must(abi, "not have an `extern` ABI");
    }
    if let Some(param) = sig.generics.params.iter().find(|param| !matches!(param, GenericParam::Lifetime(_))) {
        must(param, "not be generic: it handles one type of event");
    }
    if let Some(variadic) = &sig.variadic {
        must(variadic, "have a fixed list of arguments, without `...`");
    }
    if let Some(receiver) = sig.receiver() {
        let help = "= help: move it out of the `impl` or `trait`, and take shared data as `State<..>`";
        must(receiver, &format!("be a free function, not a method\n\n{help}"));
    } else if sig.inputs.is_empty() {
        must(&sig.ident, "take the event as its first argument");
    } else if let Some((position, arg)) = event.and_then(|event| find_event(sig, event)) {
        if position > 0 {
            must(arg, "take the event as its first argument");
        } else if let Type::Reference(TypeReference { mutability: Some(token), .. }) = &*arg.ty {
            must(token, "not change the event: other handlers get it too");
        } else if let Type::Reference(TypeReference { lifetime: Some(lifetime), elem, .. }) = &*arg.ty
            && lifetime.ident == "static"
        {
            let help = format!("= help: write `&{}`", elem.to_token_stream());
            must(lifetime, &format!("borrow the event only while it runs\n\n{help}"));
        }
    }
    if let Some(FnArg::Typed(PatType { attrs, .. })) = sig.inputs.first()
        && let Some(attr) = attrs.iter().find(|attr| is_cfg(attr))
    {
        must(attr, "take the event everywhere\n\n= help: write two functions, each with its own `#[cfg]`");
    }
    for input in &sig.inputs {
        let FnArg::Typed(arg) = input else { continue };
        if let Some(owned) = needless_borrow(&arg.ty) {
            must(&arg.ty, &format!("take `{owned}` by value, without `&`"));
        }
        if let Some(object) = state(&arg.ty).and_then(|state| trait_object(&state.arguments)) {
            let boxed = format!("Box<{}>", object.to_token_stream());
            let help = format!("= help: write `State<{boxed}>`, and give `run()` a `{boxed}`");
            let note = "= note: the trait needs `Send + Sync`, as every state does";
            must(object, &format!("take a state whose size is known\n\n{help}\n{note}"));
        }
        if let Some(tx) = state(&arg.ty).and_then(|state| inner_transaction(&state.arguments)) {
            let help = "= help: write `tx: &mut Tx<Sqlite>`";
            must(tx, &format!("take its transaction as an argument of its own, without `State`\n\n{help}"));
        }
        if let Some(pattern) = state_pattern(arg) {
            let name = match pattern.elems.first() {
                Some(Pat::Ident(name)) => name.ident.to_string(),
                _ => "state".to_owned(),
            };
            let ty = arg.ty.to_token_stream().to_string().replace(' ', "");
            let help = format!("= help: write `{name}: {ty}`, which derefs to what is in it");
            must(pattern, &format!("take its state by a name\n\n{help}"));
        }
        if let Some(token) = find_impl(arg.ty.to_token_stream()) {
            must(&token, "not be generic: write a type instead of `impl Trait`");
        }
    }
    let args =
        sig.inputs.iter().skip(1).filter_map(|input| if let FnArg::Typed(arg) = input { Some(arg) } else { None });
    let mut transactions = Vec::new();
    for arg in args {
        match transaction(&arg.ty) {
            // Of two that exclude each other there is one.
            Some(Transaction::Evented) if arg.attrs.iter().any(is_cfg) => {}
            Some(Transaction::Evented) => transactions.push(&arg.ty),
            Some(Transaction::Sqlx) => {
                must(&arg.ty, "take its transaction from evented\n\n= help: write `&mut Tx<Sqlite>`");
            }
            Some(Transaction::Misspelt) => {
                must(&arg.ty, "take its transaction as `&mut Tx<Db>`\n\n= help: write `&mut Tx<Sqlite>`");
            }
            None => {}
        }
    }
    if let Some(second) = transactions.get(1) {
        must(second, "take `&mut Tx` once: a transaction has one user");
    } else if let ([tx], Some(Route::Outbox(_)), None) = (&*transactions, route, sig.asyncness) {
        must(tx, "be an `async fn` to take `&mut Tx`");
    }
    if let ReturnType::Type(_, ty) = &sig.output {
        match **ty {
            Type::Never(_) => must(ty, "return `()` or `Result<(), E>`"),
            Type::ImplTrait(_) => {
                must(ty, "return `()` or `Result<(), E>`\n\n= help: to await in it, write `async fn`");
            }
            _ => {}
        }
    }
    errors.count() == errors_before
}

/// Whether the attribute decides if what it stands on is there.
pub fn is_cfg(attr: &Attribute) -> bool {
    attr.path().is_ident("cfg")
}

/// The first argument that is spelled like the event, or is a reference to that.
fn find_event<'a>(sig: &'a Signature, event: &TokenStream) -> Option<(usize, &'a PatType)> {
    let event = event.to_string();
    sig.inputs.iter().enumerate().find_map(|(position, input)| {
        let FnArg::Typed(arg) = input else { return None };
        let ty = if let Type::Reference(reference) = &*arg.ty { &reference.elem } else { &arg.ty };
        (ty.to_token_stream().to_string() == event).then_some((position, arg))
    })
}

/// What is behind the reference, where rustc would suggest a second `&`.
fn needless_borrow(ty: &Type) -> Option<&Ident> {
    let Type::Reference(reference) = ty else { return None };
    let Type::Path(path) = &*reference.elem else { return None };
    path.path.segments.last().map(|last| &last.ident).filter(|name| *name == "State" || *name == "Delivery")
}

/// `State<..>`, as far as its spelling tells.
fn state(ty: &Type) -> Option<&PathSegment> {
    let Type::Path(path) = ty else { return None };
    path.path.segments.last().filter(|last| last.ident == "State")
}

fn trait_object(arguments: &PathArguments) -> Option<&Type> {
    types(arguments).find(|ty| matches!(ty, Type::TraitObject(_)))
}

/// In a state, which outlives every transaction. Senders of channels are called `Tx` too: of them, `Sqlite` is no argument.
fn inner_transaction(arguments: &PathArguments) -> Option<&Type> {
    let of_sqlite = |ty: &Type| ty.to_token_stream().into_iter().any(|token| token.to_string() == "Sqlite");
    types(arguments).find(|ty| transaction(ty).is_some() && of_sqlite(ty))
}

fn types(arguments: &PathArguments) -> impl Iterator<Item = &Type> {
    let arguments = match arguments {
        PathArguments::AngleBracketed(arguments) => Some(&arguments.args),
        _ => None,
    };
    arguments.into_iter().flatten().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

/// `State(mailer): State<Mailer>`, which is how another library has it.
fn state_pattern(arg: &PatType) -> Option<&PatTupleStruct> {
    match &*arg.pat {
        Pat::TupleStruct(pattern) if state(&arg.ty).is_some() && pattern.path.is_ident("State") => Some(pattern),
        _ => None,
    }
}

/// Whether an argument is written as [`state_pattern`] finds it.
pub fn has_state_pattern(sig: &Signature) -> bool {
    sig.inputs.iter().any(|input| matches!(input, FnArg::Typed(arg) if state_pattern(arg).is_some()))
}

/// A transaction, as far as its spelling tells.
enum Transaction {
    /// `&mut Tx<..>`
    Evented,
    /// `Tx` in another form.
    Misspelt,
    /// One of sqlx, or the connection that it derefs to.
    Sqlx,
}

fn transaction(ty: &Type) -> Option<Transaction> {
    let (ty, is_mut) = match ty {
        Type::Reference(reference) => (&*reference.elem, reference.mutability.is_some()),
        ty => (ty, false),
    };
    let Type::Path(path) = ty else { return None };
    let segments = &path.path.segments;
    let last = segments.last()?;
    match last.ident.to_string().as_str() {
        "Tx" if is_mut && !last.arguments.is_none() => Some(Transaction::Evented),
        "Tx" if segments.len() == 1 && !last.arguments.is_none() => Some(Transaction::Misspelt),
        "SqliteTransaction" | "SqliteConnection" => Some(Transaction::Sqlx),
        // A type of the user's own may have this name, though hardly that argument.
        "Transaction" => {
            let of_sqlite = last.arguments.to_token_stream().into_iter().any(|token| token.to_string() == "Sqlite");
            (of_sqlite || segments.iter().any(|segment| segment.ident == "sqlx")).then_some(Transaction::Sqlx)
        }
        _ => None,
    }
}

fn find_impl(tokens: TokenStream) -> Option<TokenTree> {
    tokens.into_iter().find_map(|token| match token {
        TokenTree::Ident(word) if word == "impl" => Some(word.into()),
        TokenTree::Group(group) => find_impl(group.stream()),
        _ => None,
    })
}

/// The ids of an item: its own name is one, or a part of one, where the attribute gives none.
pub fn ids(item: &Ident, common: &Common, errors: &mut Errors) {
    let name = item_name(item);
    match &common.id {
        Some(id) => {
            if let Some(alias) = common.aliases.iter().find(|alias| alias.text == id.text) {
                errors.on(alias.span, format!("the alias `{}` is the id itself", id.text));
            }
        }
        None if is_name(&name) => {
            if let Some(alias) = common.aliases.iter().find(|alias| alias.text == name) {
                let help = "= help: remove it, or give the event a new `id = \"..\"`";
                errors.on(alias.span, format!("the alias `{name}` is the id itself\n\n{help}"));
            }
        }
        None => {
            let help = "= help: ids are 1 to 100 ASCII letters, digits, `_`, `.` and `-`; write one: `id = \"..\"`";
            errors.on(item.span(), format!("`{name}` cannot be in an id\n\n{help}"));
        }
    }
}

/// The name of an item, without `r#`.
pub fn item_name(item: &Ident) -> String {
    let name = item.to_string();
    name.strip_prefix("r#").map(ToOwned::to_owned).unwrap_or(name)
}

/// Whether the item has the same attribute once more.
pub fn repeated<'a>(attribute: &str, attrs: &'a [Attribute]) -> Option<&'a Attribute> {
    attrs.iter().find(|attr| attr.path().segments.last().is_some_and(|last| last.ident == attribute))
}

pub const STARTS_A_RUNTIME: &str = "not start a runtime: evented calls it in the one that runs";

/// An attribute below `#[handler]` that makes of the function what evented cannot call.
pub fn entry_point(name: &Ident, attrs: &[Attribute], errors: &mut Errors) -> Option<&'static str> {
    attrs.iter().find_map(|attr| {
        let last = attr.path().segments.last()?;
        let (kind, why, help) = if last.ident == "main" {
            ("main", STARTS_A_RUNTIME, "remove this attribute")
        } else if last.ident == "test" {
            ("test", "not be a test: evented calls it", "write a test of its own, which calls the handler")
        } else {
            return None;
        };
        // One that tokio wrote counts as the user's: rustc would name tokio as the one who complains.
        let at = attr.to_token_stream().into_iter().map(|mut token| {
            token.set_span(token.span().resolved_at(name.span()));
            token
        });
        let at: TokenStream = at.collect();
        errors.at(&at, format!("handler `{}` must {why}\n\n= help: {help}", item_name(name)));
        Some(kind)
    })
}

/// An attribute above `#[handler]` that made of an `async fn` one that starts a runtime. It is gone when `#[handler]` reads
/// the function, and known by what it wrote: tokio's, of all of them. The span is the attribute's.
pub fn runtime(sig: &Signature, item: &TokenStream) -> Option<Span> {
    let Some(TokenTree::Group(body)) = item.clone().into_iter().last().filter(|_| sig.asyncness.is_none()) else {
        return None;
    };
    let body: Vec<_> = body.stream().into_iter().collect();
    let begins = ["let", "body", "=", "async"];
    let begins =
        body.len() > begins.len() && body.iter().zip(begins).all(|(token, begins)| token.to_string() == begins);
    let (first, last) = (body.first()?, body.last()?);
    (begins && last.to_string().contains("Failed building the Runtime"))
        .then(|| first.span().resolved_at(sig.ident.span()))
}

/// Whether the item is a function, as far as it is written.
pub fn is_function(item: &TokenStream) -> bool {
    let before = ["pub", "default", "const", "async", "safe", "unsafe", "extern"];
    words(item).find(|word| !before.contains(&word.as_str())).is_some_and(|word| word == "fn")
}

/// What stands where a type or a function should, as the end of a sentence, and the help for one kind of it.
pub fn other_item(item: &TokenStream, confused: &str, help: &str) -> (String, String) {
    let Some(found) = words(item).find(|word| ITEMS.contains(&word.as_str())) else {
        return (String::new(), String::new());
    };
    let help = if found == confused { format!("\n\n= help: {help}") } else { String::new() };
    let article =
        if found.starts_with(['a', 'e', 'i', 'u']) && found != "use" && found != "union" { "an" } else { "a" };
    (format!(", and this is {article} `{found}`"), help)
}

/// The words of an item outside its brackets, the attributes' among those.
fn words(item: &TokenStream) -> impl Iterator<Item = String> {
    item.clone().into_iter().filter_map(|token| match token {
        TokenTree::Ident(word) => Some(word.to_string()),
        _ => None,
    })
}

/// The keywords that items begin with.
const ITEMS: &[&str] = &[
    "fn",
    "struct",
    "enum",
    "union",
    "trait",
    "impl",
    "mod",
    "type",
    "static",
    "use",
    "macro_rules",
    "extern",
    "const",
];

/// Whether the item is none, but a statement in a function.
pub fn is_statement(item: &TokenStream) -> bool {
    words(item).next().is_some_and(|word| word == "let")
}

/// The item without further attributes of the same name: each would expand to mistakes of its own.
pub fn without_repeated(attribute: &str, item: &TokenStream) -> TokenStream {
    let tokens: Vec<_> = item.clone().into_iter().collect();
    let is_repeated = |at: usize| match (&tokens[at], tokens.get(at + 1)) {
        (TokenTree::Punct(hash), Some(TokenTree::Group(group))) if hash.as_char() == '#' => {
            let path = group.stream().into_iter().take_while(|token| !matches!(token, TokenTree::Group(_)));
            path.last().is_some_and(|last| last.to_string() == attribute)
        }
        _ => false,
    };
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_repeated(at) {
            at += 2;
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept.into_iter().collect()
}

/// The function with `mailer` for each `State(mailer)`, which rustc would refuse in words of its own.
pub fn without_state_patterns(item: &TokenStream) -> TokenStream {
    let is_colon = |token: &TokenTree| matches!(token, TokenTree::Punct(colon) if colon.as_char() == ':');
    let named = |group: &Group| {
        let mut kept: Vec<TokenTree> = Vec::new();
        let mut tokens = group.stream().into_iter().peekable();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Group(inner)
                    if inner.delimiter() == Delimiter::Parenthesis
                        && tokens.peek().is_some_and(is_colon)
                        && kept.pop_if(|last| last.to_string() == "State").is_some() =>
                {
                    kept.extend(inner.stream());
                }
                token => kept.push(token),
            }
        }
        let mut named = Group::new(group.delimiter(), kept.into_iter().collect());
        named.set_span(group.span());
        named
    };
    let tokens = item.clone().into_iter().map(|token| match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis => TokenTree::Group(named(&group)),
        token => token,
    });
    tokens.collect()
}

/// The function without its `...`, which rustc would refuse in words of its own.
pub fn without_variadic(item: &TokenStream) -> TokenStream {
    let is_dot = |token: &TokenTree| matches!(token, TokenTree::Punct(dot) if dot.as_char() == '.');
    let is_comma = |token: &TokenTree| matches!(token, TokenTree::Punct(comma) if comma.as_char() == ',');
    let shortened = |group: &Group| {
        let tokens: Vec<_> = group.stream().into_iter().collect();
        let dots = tokens.windows(3).position(|three| three.iter().all(is_dot))?;
        let end = tokens[..dots].iter().rposition(is_comma).unwrap_or(0);
        let mut kept = Group::new(group.delimiter(), tokens[..end].iter().cloned().collect());
        kept.set_span(group.span());
        Some(kept)
    };
    let tokens = item.clone().into_iter().map(|token| match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis => {
            TokenTree::Group(shortened(&group).unwrap_or(group))
        }
        token => token,
    });
    tokens.collect()
}
