//! The grammar of the attributes: what is written in them, before anyone asks whether it makes sense.

use std::fmt::Display;

use proc_macro2::{Delimiter, Ident, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::Lit;

/// One entry of an attribute's list. Reading never fails: what is no option is `Bare`, and the rules say what is wrong.
#[derive(Clone)]
pub enum Arg {
    /// `background`
    Word(Ident),
    /// `retries = 8`
    Value(Ident, TokenStream),
    /// `background(..)`
    List(Ident, Vec<Arg>),
    /// `"1s"`, a path, or anything else.
    Bare(TokenStream),
}

impl Arg {
    /// The entries between the commas of `tokens`.
    pub fn list(tokens: TokenStream) -> Vec<Self> {
        let mut list = Vec::new();
        let mut entry = Vec::new();
        for token in tokens {
            match token {
                TokenTree::Punct(comma) if comma.as_char() == ',' => {
                    list.extend(Self::entry(&entry));
                    entry.clear();
                }
                token => entry.push(token),
            }
        }
        list.extend(Self::entry(&entry));
        list
    }

    fn entry(tokens: &[TokenTree]) -> Option<Self> {
        Some(match tokens {
            [] => return None,
            [TokenTree::Ident(name)] => Self::Word(name.clone()),
            [TokenTree::Ident(name), TokenTree::Group(group)] if group.delimiter() == Delimiter::Parenthesis => {
                Self::List(name.clone(), Self::list(group.stream()))
            }
            [TokenTree::Ident(name), TokenTree::Punct(equals), value @ ..]
                if equals.as_char() == '=' && !matches!(value, [TokenTree::Punct(tip), ..] if tip.as_char() == '>') =>
            {
                Self::Value(name.clone(), value.iter().cloned().collect())
            }
            _ => Self::Bare(tokens.iter().cloned().collect()),
        })
    }

    /// The option's name, if the entry has the shape of one.
    pub fn name(&self) -> Option<&Ident> {
        match self {
            Self::Word(name) | Self::Value(name, _) | Self::List(name, _) => Some(name),
            Self::Bare(_) => None,
        }
    }

    /// The same entry of another name.
    pub fn renamed(&self, name: &str) -> Self {
        let rename = |from: &Ident| Ident::new(name, from.span());
        match self {
            Self::Word(from) => Self::Word(rename(from)),
            Self::Value(from, value) => Self::Value(rename(from), value.clone()),
            Self::List(from, list) => Self::List(rename(from), list.clone()),
            Self::Bare(tokens) => Self::Bare(tokens.clone()),
        }
    }

    /// The first word of an entry that has not the shape of an option.
    pub fn begins_with(&self) -> Option<String> {
        match self.to_token_stream().into_iter().next() {
            Some(TokenTree::Ident(name)) => Some(name.to_string()),
            _ => None,
        }
    }

    /// The entry as it is written, for a help text.
    pub fn written(&self) -> String {
        match self {
            Self::Word(name) => name.to_string(),
            Self::Value(name, value) => format!("{name} = {value}"),
            Self::List(name, _) => format!("{name}(..)"),
            Self::Bare(tokens) => tokens.to_string(),
        }
    }
}

/// For errors only: the entry's first and last tokens are what counts.
impl ToTokens for Arg {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match self {
            Self::Word(name) | Self::List(name, _) => name.to_tokens(tokens),
            Self::Value(name, value) => {
                name.to_tokens(tokens);
                value.to_tokens(tokens);
            }
            Self::Bare(bare) => bare.to_tokens(tokens),
        }
    }
}

/// A literal, and the tokens where errors about it point.
pub struct Text {
    pub text: String,
    pub span: Span,
}

/// The text of a string literal; `None` for anything else.
pub fn string(tokens: &TokenStream) -> Option<Text> {
    match syn::parse2(tokens.clone()) {
        Ok(Lit::Str(literal)) if literal.suffix().is_empty() => {
            Some(Text { text: literal.value(), span: literal.span() })
        }
        _ => None,
    }
}

/// The number of an integer literal without a suffix; `None` for anything else.
pub fn integer(tokens: &TokenStream) -> Option<u32> {
    match syn::parse2(tokens.clone()) {
        Ok(Lit::Int(literal)) if literal.suffix().is_empty() => literal.base10_parse().ok(),
        _ => None,
    }
}

/// The number of an integer literal with a suffix, like `8u32`.
pub fn suffixed(tokens: &TokenStream) -> Option<u32> {
    match syn::parse2(tokens.clone()) {
        Ok(Lit::Int(literal)) if !literal.suffix().is_empty() => literal.base10_digits().parse().ok(),
        _ => None,
    }
}

/// Whether the tokens name something, such as a constant, where a literal is expected.
pub fn is_path(tokens: &TokenStream) -> bool {
    syn::parse2::<syn::Path>(tokens.clone()).is_ok()
}

const UNITS: &str = "= help: write one number and one of `ms`, `s`, `m`, `h`, `d`, like `\"30s\"`";

/// The milliseconds of a duration: one number and one unit. The error is its text.
pub fn millis(text: &str) -> Result<u64, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = &text[..text.len() - unit.len()];
    if number.is_empty() {
        return Err(format!("`{text:?}` is not a duration\n\n{UNITS}"));
    }
    let each = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" => {
            let help = format!("did you mean `\"{number}s\"` (seconds) or `\"{number}ms\"` (milliseconds)?");
            return Err(format!("the unit is missing in the duration `{text:?}`\n\n= help: {help}"));
        }
        _ => {
            let help = match unit.trim_start() {
                "s" | "sec" | "secs" | "second" | "seconds" | "S" => "s",
                "m" | "min" | "mins" | "minute" | "minutes" | "M" => "m",
                "h" | "hr" | "hrs" | "hour" | "hours" | "H" => "h",
                "d" | "day" | "days" | "D" => "d",
                "ms" | "msec" | "millis" | "milliseconds" => "ms",
                _ => return Err(format!("`{text:?}` is not a duration\n\n{UNITS}")),
            };
            return Err(format!("`{text:?}` is not a duration\n\n= help: did you mean `\"{number}{help}\"`?"));
        }
    };
    let millis = number.parse::<u64>().ok().and_then(|number| number.checked_mul(each));
    millis.ok_or_else(|| format!("the duration `{text:?}` is too long"))
}

/// The word among `known` that `word` was probably meant to be.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let (distance, nearest) = known.iter().map(|known| (distance(word, known), *known)).min()?;
    (distance <= nearest.len().div_ceil(3)).then_some(nearest)
}

/// How many letters must be inserted, left out, replaced, or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// The mistakes found so far: all of an item are reported in one run.
#[derive(Default)]
pub struct Errors(Vec<syn::Error>);

impl Errors {
    /// A mistake, at the tokens that make it.
    pub fn at(&mut self, tokens: &impl ToTokens, text: impl Display) {
        self.0.push(syn::Error::new_spanned(tokens, text));
    }

    /// A mistake at one token.
    pub fn on(&mut self, span: Span, text: impl Display) {
        self.0.push(syn::Error::new(span, text));
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl ToTokens for Errors {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.extend(self.0.iter().map(syn::Error::to_compile_error));
    }
}
