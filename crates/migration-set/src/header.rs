//! What the comments at the top of a file declare.

use crate::finding::{Finding, Rule};
use crate::lexer::{Lexer, Token, TokenKind};
use crate::migration::Phase;
use crate::statement::Lines;

/// The declared facts, with what holds when nothing is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) transactional: bool,
    pub(crate) phase: Option<Phase>,
}

/// Reads the line comments before the first statement. A declaration further down would be silently without effect, so it
/// is a finding, as are a second one and an unknown phase.
pub(crate) fn read(file: &str, sql: &str, lines: &Lines<'_>, findings: &mut Vec<Finding>) -> Header {
    let mut header = Header { transactional: true, phase: None };
    let mut at_top = true;
    for token in Lexer::new(sql) {
        at_top &= !token.is_significant();
        let Some(declaration) = Declaration::of(&token) else {
            continue;
        };
        let problem = match declaration {
            _ if !at_top => Some("a header has no effect below the first statement: move it to the top of the file"),
            Declaration::NoTransaction if !header.transactional => Some("the header is there twice: remove one"),
            Declaration::NoTransaction => {
                header.transactional = false;
                None
            }
            Declaration::Phase(_) if header.phase.is_some() => Some("a file has one phase: remove the other header"),
            Declaration::Phase(phase) => {
                header.phase = phase;
                phase.is_none().then_some("the phase is either expand or contract: write one of them")
            }
        };
        if let Some(message) = problem {
            findings.push(Finding::new(file, lines.position(token.start), Rule::Header, message));
        }
    }
    header
}

/// One header line; a phase that is not known is `None`.
enum Declaration {
    NoTransaction,
    Phase(Option<Phase>),
}

impl Declaration {
    fn of(token: &Token<'_>) -> Option<Self> {
        if token.kind != TokenKind::LineComment {
            return None;
        }
        let text = token.text.trim_start_matches('-').trim().to_ascii_lowercase();
        if text == "no-transaction" {
            return Some(Self::NoTransaction);
        }
        let phase = text.strip_prefix("phase:")?.trim();
        Some(Self::Phase(match phase {
            "expand" => Some(Phase::Expand),
            "contract" => Some(Phase::Contract),
            _ => None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::{Header, read};
    use crate::finding::Finding;
    use crate::migration::Phase;
    use crate::statement::Lines;

    fn header(sql: &str) -> (Header, Vec<Finding>) {
        let mut findings = Vec::new();
        let header = read("V1__a.sql", sql, &Lines::new(sql), &mut findings);
        (header, findings)
    }

    #[test]
    fn headers_stand_anywhere_in_the_top_comment_block() {
        let (header, findings) =
            header("-- Gates.\r\n\r\n/* why */\r\n--no-transaction\r\n-- phase: Contract\r\nSELECT 1;");
        assert!(findings.is_empty());
        assert!(!header.transactional);
        assert_eq!(header.phase, Some(Phase::Contract));
    }

    #[test]
    fn a_file_without_headers_runs_in_a_transaction() {
        let (header, findings) = header("-- this needs no-transaction: it does not\nSELECT '-- no-transaction';");
        assert!(header.transactional && header.phase.is_none() && findings.is_empty());
    }

    #[test]
    fn headers_that_would_have_no_effect_are_found() {
        assert_eq!(header("SELECT 1;\n-- no-transaction\n").1[0].line, 2);
        assert_eq!(header("-- phase: shrink\nSELECT 1;").1.len(), 1);
        assert_eq!(header("-- phase: expand\n-- phase: contract\nSELECT 1;").1.len(), 1);
        assert_eq!(header("-- no-transaction\n-- no-transaction\nSELECT 1;").1.len(), 1);
    }
}
