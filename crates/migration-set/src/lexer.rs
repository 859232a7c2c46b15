//! PostgreSQL's lexical rules, as far as finding the ends of things needs them.
//!
//! The lexer loses nothing: the texts of its tokens, joined, are the input. It never fails either; what does not
//! end before the file does comes out as an [`TokenKind::Unterminated`] token that reaches to the end.
//! It assumes `standard_conforming_strings = on`, which is why the lint refuses to let a file change that.

/// What a token is. Only distinctions that some rule needs are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A run of white space.
    Space,
    /// `-- …` up to, but without, the end of its line.
    LineComment,
    /// `/* … */`, nested ones included.
    BlockComment,
    /// A keyword or an unquoted name.
    Word,
    /// `"…"` or `U&"…"`.
    QuotedName,
    /// `'…'` in any of its spellings (`E`, `U&`, `N`, `B`, `X`).
    String,
    /// `$tag$ … $tag$`.
    DollarString,
    /// A number, or a parameter such as `$1`.
    Number,
    /// `;`
    Semicolon,
    /// Any other single character.
    Symbol,
    /// A comment, string or quoted name whose end is missing.
    Unterminated,
}

/// One token and where it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    pub(crate) kind: TokenKind,
    pub(crate) text: &'a str,
    /// Byte offset of the first character.
    pub(crate) start: usize,
}

impl Token<'_> {
    /// Byte offset just past the last character.
    pub(crate) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Neither white space nor a comment.
    pub(crate) fn is_significant(&self) -> bool {
        !matches!(self.kind, TokenKind::Space | TokenKind::LineComment | TokenKind::BlockComment)
    }

    /// Whether this is the given keyword, in any case. A quoted name is never a keyword.
    pub(crate) fn is_word(&self, keyword: &str) -> bool {
        self.kind == TokenKind::Word && self.text.eq_ignore_ascii_case(keyword)
    }

    /// Whether this is the given single character.
    pub(crate) fn is_symbol(&self, symbol: &str) -> bool {
        self.kind == TokenKind::Symbol && self.text == symbol
    }
}

/// Reads tokens from a text.
#[derive(Clone, Debug)]
pub(crate) struct Lexer<'a> {
    sql: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(sql: &'a str) -> Self {
        Self { sql, at: 0 }
    }

    /// Goes on reading from another place, which must be the start of a character.
    pub(crate) fn jump_to(&mut self, at: usize) {
        self.at = at;
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.sql.as_bytes().get(at).copied()
    }

    fn run(&self, from: usize, belongs: impl Fn(u8) -> bool) -> usize {
        let bytes = &self.sql.as_bytes()[from.min(self.sql.len())..];
        from + bytes.iter().take_while(|byte| belongs(**byte)).count()
    }

    /// The kind and end of the token that starts at `at`, whose first byte is `first`.
    fn measure(&self, at: usize, first: u8) -> (TokenKind, usize) {
        let second = self.byte(at + 1);
        match first {
            byte if is_space(byte) => (TokenKind::Space, self.run(at, is_space)),
            b'-' if second == Some(b'-') => (TokenKind::LineComment, self.run(at, |byte| !is_newline(byte))),
            b'/' if second == Some(b'*') => ended(TokenKind::BlockComment, self.block_comment(at), self.sql),
            b'\'' => ended(TokenKind::String, self.quoted(at, b'\''), self.sql),
            b'"' => ended(TokenKind::QuotedName, self.quoted(at, b'"'), self.sql),
            b'e' | b'E' if second == Some(b'\'') => ended(TokenKind::String, self.escape_string(at + 1), self.sql),
            b'b' | b'B' | b'x' | b'X' | b'n' | b'N' if second == Some(b'\'') => {
                ended(TokenKind::String, self.quoted(at + 1, b'\''), self.sql)
            }
            b'u' | b'U' if second == Some(b'&') && self.byte(at + 2) == Some(b'\'') => {
                ended(TokenKind::String, self.quoted(at + 2, b'\''), self.sql)
            }
            b'u' | b'U' if second == Some(b'&') && self.byte(at + 2) == Some(b'"') => {
                ended(TokenKind::QuotedName, self.quoted(at + 2, b'"'), self.sql)
            }
            byte if is_word_start(byte) => (TokenKind::Word, self.run(at, is_word_part)),
            b'$' => self.dollar(at),
            byte if byte.is_ascii_digit() => (TokenKind::Number, self.number(at)),
            b'.' if second.is_some_and(|byte| byte.is_ascii_digit()) => (TokenKind::Number, self.number(at)),
            b';' => (TokenKind::Semicolon, at + 1),
            _ => (TokenKind::Symbol, at + 1),
        }
    }

    /// The end of a comment that starts at `at`. PostgreSQL's block comments nest.
    fn block_comment(&self, at: usize) -> Option<usize> {
        let mut depth = 0_usize;
        let mut at = at;
        loop {
            match (self.byte(at)?, self.byte(at + 1)) {
                (b'/', Some(b'*')) => {
                    depth += 1;
                    at += 2;
                }
                (b'*', Some(b'/')) => {
                    depth -= 1;
                    at += 2;
                    if depth == 0 {
                        return Some(at);
                    }
                }
                _ => at += 1,
            }
        }
    }

    /// The end of a quoted thing whose opening quote stands at `at`; the quote doubled stands for itself.
    fn quoted(&self, at: usize, quote: u8) -> Option<usize> {
        let mut at = at + 1;
        loop {
            if self.byte(at)? != quote {
                at += 1;
            } else if self.byte(at + 1) == Some(quote) {
                at += 2;
            } else {
                return Some(at + 1);
            }
        }
    }

    /// The end of an escape string whose opening quote stands at `at`. A literal that goes on after a line break
    /// (`E'a'` newline `'b\'c'`) keeps the escape rules of its first part, so the parts are one token here.
    fn escape_string(&self, at: usize) -> Option<usize> {
        let mut at = at + 1;
        loop {
            match self.byte(at)? {
                b'\\' => at += 2,
                b'\'' if self.byte(at + 1) == Some(b'\'') => at += 2,
                b'\'' => match self.continued_literal(at + 1) {
                    Some(next_part) => at = next_part + 1,
                    None => return Some(at + 1),
                },
                _ => at += 1,
            }
        }
    }

    /// Where the opening quote of a literal's next part stands: after white space and line comments that hold at
    /// least one line break.
    fn continued_literal(&self, at: usize) -> Option<usize> {
        let mut at = at;
        let mut line_broken = false;
        loop {
            match self.byte(at)? {
                byte if is_space(byte) => {
                    line_broken |= is_newline(byte);
                    at += 1;
                }
                b'-' if self.byte(at + 1) == Some(b'-') => at = self.run(at, |byte| !is_newline(byte)),
                b'\'' if line_broken => return Some(at),
                _ => return None,
            }
        }
    }

    /// A dollar-quoted string, a parameter, or a lone dollar sign.
    fn dollar(&self, at: usize) -> (TokenKind, usize) {
        if self.byte(at + 1).is_some_and(|byte| byte.is_ascii_digit()) {
            return (TokenKind::Number, self.run(at + 1, |byte| byte.is_ascii_digit()));
        }
        let tag_end = match self.byte(at + 1) {
            Some(byte) if is_word_start(byte) => self.run(at + 1, |byte| is_word_part(byte) && byte != b'$'),
            _ => at + 1,
        };
        if self.byte(tag_end) != Some(b'$') {
            return (TokenKind::Symbol, at + 1);
        }
        let tag = &self.sql[at..=tag_end];
        let body = tag_end + 1;
        let end = self.sql[body..].find(tag).map(|length| body + length + tag.len());
        ended(TokenKind::DollarString, end, self.sql)
    }

    fn number(&self, at: usize) -> usize {
        let mut end = self.run(at, |byte| byte.is_ascii_alphanumeric() || byte == b'_');
        // `1..10` of a PL/pgSQL loop is two numbers, `1.5` is one.
        if self.byte(end) == Some(b'.') && self.byte(end + 1) != Some(b'.') {
            end = self.run(end + 1, |byte| byte.is_ascii_alphanumeric() || byte == b'_');
        }
        end
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let start = self.at;
        let (kind, end) = self.measure(start, self.byte(start)?);
        self.at = end;
        Some(Token { kind, text: &self.sql[start..end], start })
    }
}

fn ended(kind: TokenKind, end: Option<usize>, sql: &str) -> (TokenKind, usize) {
    match end {
        Some(end) => (kind, end),
        None => (TokenKind::Unterminated, sql.len()),
    }
}

fn is_newline(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Every byte of a non-ASCII character counts as a letter, as in PostgreSQL's own scanner.
fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || !byte.is_ascii()
}

fn is_word_part(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::{Lexer, TokenKind};
    use proptest::prelude::*;

    fn significant(sql: &str) -> Vec<(TokenKind, &str)> {
        Lexer::new(sql).filter(super::Token::is_significant).map(|token| (token.kind, token.text)).collect()
    }

    fn is_one(sql: &str, kind: TokenKind) {
        assert_eq!(significant(sql), [(kind, sql)]);
    }

    #[test]
    fn every_spelling_of_a_string_ends_where_postgresql_ends_it() {
        is_one("'it''s; -- not a comment'", TokenKind::String);
        is_one(r"'a backslash \'", TokenKind::String);
        is_one(r"E'escaped \' quote'", TokenKind::String);
        is_one(r"e'two \\'", TokenKind::String);
        is_one(r"U&'\0441''\+01F418'", TokenKind::String);
        is_one("X'1F'", TokenKind::String);
        is_one("N'national'", TokenKind::String);
        is_one(r#""a "" name; '""#, TokenKind::QuotedName);
        is_one(r#"U&"d\0061t""#, TokenKind::QuotedName);
    }

    #[test]
    fn an_escape_string_keeps_its_rules_on_the_next_line() {
        is_one("E'a' -- why\n  'b\\'c;'", TokenKind::String);
        assert_eq!(significant("E'a' 'b'").len(), 2, "without a line break they are two literals");
    }

    #[test]
    fn dollar_quotes_end_at_their_own_tag_only() {
        is_one("$$ a; 'b $x$ c $$", TokenKind::DollarString);
        is_one("$body$ $$ ; $$ $body$", TokenKind::DollarString);
        is_one("$étiquette$ ; $étiquette$", TokenKind::DollarString);
        assert_eq!(significant("$1")[0].0, TokenKind::Number);
        assert_eq!(significant("a$b$c"), [(TokenKind::Word, "a$b$c")]);
        assert_eq!(significant("$1$ x")[0], (TokenKind::Number, "$1"));
    }

    #[test]
    fn block_comments_nest() {
        assert_eq!(significant("/* a /* b */ ; */ x"), [(TokenKind::Word, "x")]);
        assert_eq!(significant("/* a /* b */ ;")[0].0, TokenKind::Unterminated);
    }

    #[test]
    fn a_comment_may_follow_an_operator_directly() {
        assert_eq!(significant("1 +--;\n2").len(), 3);
        assert_eq!(significant("2*/* ; */3").len(), 3);
    }

    #[test]
    fn a_loop_range_is_two_numbers() {
        assert_eq!(
            significant("1..10"),
            [(TokenKind::Number, "1"), (TokenKind::Symbol, "."), (TokenKind::Number, ".10"),]
        );
        is_one("1.5", TokenKind::Number);
    }

    #[test]
    fn what_never_ends_is_said_to_be_unterminated() {
        for sql in ["'a", "E'a\\'", "\"a", "$$ a", "$t$ a $$", "/* a", "U&'a", "E'\\"] {
            assert_eq!(significant(sql)[0].0, TokenKind::Unterminated, "{sql}");
        }
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_whatever_the_text(sql in any::<String>()) {
            let joined: String = Lexer::new(&sql).map(|token| token.text).collect();
            prop_assert_eq!(joined, sql);
        }

        #[test]
        fn no_byte_is_lost_in_texts_full_of_quotes(sql in r#"[ \n;'"$a1\\/*\-eEuU&é.]{0,60}"#) {
            let tokens: Vec<_> = Lexer::new(&sql).collect();
            let mut at = 0;
            for token in &tokens {
                prop_assert_eq!(token.start, at);
                prop_assert!(!token.text.is_empty());
                at = token.end();
            }
            prop_assert_eq!(at, sql.len());
        }

        #[test]
        fn a_literal_quoted_by_the_book_is_one_token(value in any::<String>()) {
            let plain = format!("'{}'", value.replace('\'', "''"));
            let escaped = format!("E'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"));
            let name = format!("\"{}\"", value.replace('"', "\"\""));
            for sql in [plain, escaped, name] {
                let tokens: Vec<_> = Lexer::new(&sql).collect();
                prop_assert_eq!(tokens.len(), 1);
                prop_assert_ne!(tokens[0].kind, TokenKind::Unterminated);
            }
        }
    }
}
