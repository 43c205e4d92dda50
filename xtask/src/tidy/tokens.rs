//! A Rust source as a flat list of tokens that know their line and whether they are test code.
//!
//! Tokens, not a syntax tree: what stands inside a macro's arguments is looked at like everything else.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Ident(String),
    Punct(char),
    /// As written, with its quotes.
    Literal(String),
    Open(char),
    Close(char),
}

#[derive(Debug)]
pub struct Token {
    pub kind: Kind,
    /// From 1.
    pub line: usize,
    /// Below `#[test]` or `#[cfg(test)]`.
    pub in_test: bool,
    /// For an `Open` where its `Close` is, and the reverse; itself for the others.
    pub partner: usize,
}

#[derive(Debug)]
pub struct Tokens(Vec<Token>);

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub line: usize,
    /// From the line of `fn` to that of the closing brace.
    pub lines: usize,
}

impl Tokens {
    /// # Errors
    /// When the text is not Rust; the lexer's words.
    pub fn read(text: &str) -> Result<Self, String> {
        let stream: TokenStream =
            text.parse().map_err(|error: proc_macro2::LexError| error.to_string())?;
        let mut tokens = Self(Vec::new());
        tokens.flatten(stream);
        tokens.mark_tests();
        Ok(tokens)
    }

    fn flatten(&mut self, stream: TokenStream) {
        for tree in stream {
            let line = tree.span().start().line;
            match tree {
                TokenTree::Group(group) => {
                    let (open, close) = match group.delimiter() {
                        Delimiter::Parenthesis => ('(', ')'),
                        Delimiter::Brace => ('{', '}'),
                        Delimiter::Bracket => ('[', ']'),
                        Delimiter::None => {
                            self.flatten(group.stream());
                            continue;
                        }
                    };
                    let opened = self.push(Kind::Open(open), line);
                    self.flatten(group.stream());
                    let closed = self.push(Kind::Close(close), group.span_close().start().line);
                    self.0[opened].partner = closed;
                    self.0[closed].partner = opened;
                }
                TokenTree::Ident(ident) => {
                    self.push(Kind::Ident(ident.to_string()), line);
                }
                TokenTree::Punct(punct) => {
                    self.push(Kind::Punct(punct.as_char()), line);
                }
                TokenTree::Literal(literal) => {
                    self.push(Kind::Literal(literal.to_string()), line);
                }
            }
        }
    }

    fn push(&mut self, kind: Kind, line: usize) -> usize {
        let partner = self.0.len();
        self.0.push(Token { kind, line, in_test: false, partner });
        partner
    }

    fn mark_tests(&mut self) {
        let attributes: Vec<Attribute> = self.attributes().collect();
        for attribute in attributes {
            if !self.means_test(&attribute) {
                continue;
            }
            let end =
                if attribute.inner { self.0.len() } else { self.item_end(attribute.close + 1) + 1 };
            let end = end.min(self.0.len());
            for token in &mut self.0[attribute.start..end] {
                token.in_test = true;
            }
        }
    }

    /// Every `#[…]` and `#![…]`.
    pub fn attributes(&self) -> impl Iterator<Item = Attribute> + '_ {
        (0..self.0.len()).filter_map(|start| {
            if !self.is_punct(start, '#') {
                return None;
            }
            let inner = self.is_punct(start + 1, '!');
            let open = start + 1 + usize::from(inner);
            (self.kind(open) == Some(&Kind::Open('['))).then(|| Attribute {
                start,
                open,
                close: self.0[open].partner,
                inner,
            })
        })
    }

    fn means_test(&self, attribute: &Attribute) -> bool {
        let inside = attribute.open + 1..attribute.close;
        if self.ident(inside.start) == Some("cfg") {
            let mut words = inside.clone().filter_map(|i| self.ident(i));
            return words.any(|word| word == "test")
                && !inside.clone().any(|i| self.ident(i) == Some("not"));
        }
        let path_end = inside
            .clone()
            .find(|&i| matches!(self.kind(i), Some(Kind::Open(_))))
            .unwrap_or(inside.end);
        path_end > inside.start && self.ident(path_end - 1) == Some("test")
    }

    /// The last token of the item that begins at `at`, or of what encloses it.
    fn item_end(&self, mut at: usize) -> usize {
        loop {
            match self.kind(at) {
                None | Some(Kind::Close(_)) => return at,
                Some(Kind::Open('{')) => return self.0[at].partner,
                Some(Kind::Open(_)) => at = self.0[at].partner + 1,
                Some(Kind::Punct(';')) => return at,
                Some(_) => at += 1,
            }
        }
    }

    /// Every function that has a body, nested ones too.
    pub fn functions(&self) -> Vec<Function> {
        let mut functions = Vec::new();
        for at in 0..self.0.len() {
            let (Some("fn"), Some(name)) = (self.ident(at), self.ident(at + 1)) else {
                continue; // A function's type has a parenthesis here.
            };
            let end = self.item_end(at);
            if self.kind(end) == Some(&Kind::Close('}')) && self.0[end].partner > at {
                let line = self.0[at].line;
                let lines = self.0[end].line - line + 1;
                functions.push(Function { name: name.to_owned(), line, lines });
            }
        }
        functions
    }

    /// The modules in files of their own that exist only for tests.
    pub fn test_modules(&self) -> Vec<String> {
        let declared = (0..self.0.len()).filter(|&at| {
            self.ident(at) == Some("mod") && self.0[at].in_test && self.is_punct(at + 2, ';')
        });
        declared.filter_map(|at| self.ident(at + 1)).map(str::to_owned).collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = (usize, &Token)> {
        self.0.iter().enumerate()
    }

    pub fn kind(&self, at: usize) -> Option<&Kind> {
        self.0.get(at).map(|token| &token.kind)
    }

    pub fn ident(&self, at: usize) -> Option<&str> {
        match self.kind(at) {
            Some(Kind::Ident(name)) => Some(name),
            _ => None,
        }
    }

    pub fn is_punct(&self, at: usize, punct: char) -> bool {
        self.kind(at) == Some(&Kind::Punct(punct))
    }

    pub fn line(&self, at: usize) -> usize {
        self.0.get(at).map_or(1, |token| token.line)
    }
}

/// Where an attribute stands in the list.
pub struct Attribute {
    pub start: usize,
    /// Its `[`.
    pub open: usize,
    /// Its `]`.
    pub close: usize,
    /// `#![…]`.
    pub inner: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Tokens {
        Tokens::read(text).expect("the sample is Rust")
    }

    #[test]
    fn a_function_is_as_long_as_from_fn_to_its_closing_brace() {
        let text = "/// Doc.\npub fn a(f: fn(u8) -> [u8; 2]) -> u8\nwhere\n    u8: Copy,\n{\n    1\n}\ntrait T { fn b(); }\n";
        assert_eq!(read(text).functions(), [Function { name: "a".into(), line: 2, lines: 6 }]);
    }

    #[test]
    fn a_function_inside_a_macro_is_seen_too() {
        let text = "proptest! {\n fn a(x in 0..1) {\n  f(x);\n }\n}\n";
        assert_eq!(read(text).functions(), [Function { name: "a".into(), line: 2, lines: 3 }]);
    }

    #[test]
    fn only_what_stands_below_a_test_attribute_is_test_code() {
        let text = "fn a() {}\n#[cfg(test)]\n#[path = \"x\"]\nmod t { fn b() {} }\n#[cfg(not(test))]\nfn c() {}\n#[tokio::test(start_paused = true)]\nasync fn d() {}\nfn e() {}";
        let tokens = read(text);
        let tested: Vec<&str> = tokens
            .iter()
            .filter(|(at, token)| tokens.ident(*at) == Some("fn") && token.in_test)
            .filter_map(|(at, _)| tokens.ident(at + 1))
            .collect();
        assert_eq!(tested, ["b", "d"]);
    }

    #[test]
    fn an_inner_attribute_makes_the_whole_file_test_code() {
        let tokens = read("//! Doc.\n#![cfg(test)]\nfn a() {}");
        assert!(tokens.iter().all(|(_, token)| token.in_test || token.line == 1));
    }

    #[test]
    fn test_modules_in_their_own_files_are_found() {
        assert_eq!(
            read("mod a;\n#[cfg(test)]\nmod b;\n#[cfg(test)]\nmod c { }").test_modules(),
            ["b"]
        );
    }
}
