//! Limits for texts that DataFusion reads: its expressions are as deep as a text is long, and it walks them by recursion.

use crate::{Error, Result};
use datafusion::sql::sqlparser::dialect::DatabricksDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// An expression has at most this many operators, as in bayou's own dialect.
pub(super) const MOST_OF_AN_EXPRESSION: usize = 1000;
/// A statement has at most this many operators: it is read on a thread with a larger stack.
const MOST_OF_A_STATEMENT: usize = 5000;
/// Text is nested at most this many levels deep.
const MOST_NESTED: usize = 128;

/// Refuses a statement that is too deep.
pub(crate) fn check_statement(text: &str) -> Result<()> {
    // A text that cannot be split into tokens is reported by the parser, which reads it next.
    let Ok(tokens) = Tokenizer::new(&DatabricksDialect {}, text).tokenize() else { return Ok(()) };
    check(&tokens, MOST_OF_A_STATEMENT, '`').map_err(|why| Error::schema(format!("SQL: {why}")))
}

/// Refuses a text that is too deep, and a number that runs into a name: `2fa_id` would be the number 2 with the alias fa_id.
pub(super) fn check(tokens: &[Token], most: usize, quote: char) -> Result<(), String> {
    let (mut depth, mut deepest, mut operators) = (0usize, 0, 0);
    let before = |i: usize| tokens[..i].iter().rev().find(|t| !matches!(t, Token::Whitespace(_)));
    for (i, token) in tokens.iter().enumerate() {
        match token {
            Token::LParen | Token::LBrace => depth += 1,
            Token::LBracket => (depth, operators) = (depth + 1, operators + 1),
            // The sign of a number in a list.
            Token::Minus if matches!(before(i), Some(Token::Comma | Token::LParen)) => {}
            Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
            Token::Number(number, _) => {
                if let Some(Token::Word(word)) = tokens.get(i + 1)
                    && word.quote_style.is_none()
                {
                    let name = format!("{number}{}", word.value);
                    return Err(format!("'{name}' begins with a digit. Write it as a name: {quote}{name}{quote}"));
                }
            }
            Token::Word(word) => match word.keyword {
                Keyword::CASE => depth += 1,
                Keyword::END => depth = depth.saturating_sub(1),
                Keyword::NoKeyword | Keyword::AS => {}
                _ => operators += 1,
            },
            Token::Whitespace(_) | Token::Comma | Token::Period | Token::SemiColon | Token::EOF => {}
            Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) => {}
            // Symbols such as `ARRAY<` count too.
            Token::Lt => {
                operators += 1;
                if matches!(before(i), Some(Token::Word(w)) if w.keyword != Keyword::NoKeyword) {
                    depth += 1;
                }
            }
            _ => operators += 1,
        }
        deepest = deepest.max(depth);
    }
    if deepest > MOST_NESTED {
        return Err(format!("the text is nested more than {MOST_NESTED} levels deep"));
    }
    if operators > most {
        return Err(format!(
            "the text has more than {most} operators and keywords; a long list of values goes into IN (…), or in a table to join with"
        ));
    }
    Ok(())
}
