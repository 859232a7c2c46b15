//! A file taken apart for the rules that look at whole statements.

use crate::lexer::{Lexer, Token, TokenKind};
use crate::statement::Splitter;

/// A file's statements, and its line comments.
pub(crate) struct Script<'a> {
    pub(crate) sql: &'a str,
    /// The significant tokens of each statement; none is empty.
    pub(crate) statements: Vec<Vec<Token<'a>>>,
    pub(crate) comments: Vec<Token<'a>>,
}

impl<'a> Script<'a> {
    pub(crate) fn read(sql: &'a str) -> Self {
        let mut splitter = Splitter::new(sql);
        let statements = std::iter::from_fn(|| splitter.next_statement()).filter(|tokens| !tokens.is_empty()).collect();
        let comments = Lexer::new(sql).filter(|token| token.kind == TokenKind::LineComment).collect();
        Self { sql, statements, comments }
    }

    /// The number of the first statement that starts at or after a byte.
    pub(crate) fn statement_from(&self, at: usize) -> usize {
        self.statements.partition_point(|tokens| tokens[0].start < at)
    }

    /// The statement that a byte lies in, or behind.
    pub(crate) fn statement_at(&self, at: usize) -> Option<&Vec<Token<'a>>> {
        self.statements.get(self.statement_from(at + 1).checked_sub(1)?)
    }
}

/// The name that a word or quoted name stands for: as PostgreSQL folds it.
pub(crate) fn folded(token: &Token<'_>) -> Option<String> {
    match token.kind {
        TokenKind::Word => Some(token.text.to_ascii_lowercase()),
        TokenKind::QuotedName => {
            let content = token.text.strip_prefix('"').and_then(|text| text.strip_suffix('"'))?;
            Some(content.replace("\"\"", "\""))
        }
        _ => None,
    }
}

/// The name at the start of some tokens, its schema left out.
pub(crate) fn name_of(tokens: &[Token<'_>]) -> Option<String> {
    match tokens {
        [_, dot, name, ..] if dot.is_symbol(".") => folded(name),
        [name, ..] => folded(name),
        [] => None,
    }
}

/// Whether some tokens start with some keywords.
pub(crate) fn starts_with(tokens: &[Token<'_>], keywords: &[&str]) -> bool {
    tokens.len() >= keywords.len() && tokens.iter().zip(keywords).all(|(token, keyword)| token.is_word(keyword))
}
