//! How large a text may be that DataFusion reads: what it makes of one is as deep as the text is long, and is walked by recursion.

use crate::{Error, Result};
use datafusion::sql::sqlparser::dialect::DatabricksDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// As many as bayou's own expressions may have.
pub(super) const MOST_OF_AN_EXPRESSION: usize = 1000;
/// For threads that have more room.
const MOST_OF_A_STATEMENT: usize = 5000;
const MOST_NESTED: usize = 128;

/// Refuses a statement that goes too deep.
pub fn check_statement(text: &str) -> Result<()> {
    // What cannot be read is told by who reads it.
    let Ok(tokens) = Tokenizer::new(&DatabricksDialect {}, text).tokenize() else { return Ok(()) };
    check(&tokens, MOST_OF_A_STATEMENT, '`').map_err(|why| Error::schema(format!("SQL: {why}")))
}

/// Refuses what goes too deep, and a number that runs on into a name: `2fa_id` would be the number 2, named fa_id.
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
                    return Err(format!("'{name}' begins with a digit; as a name it is written {quote}{name}{quote}"));
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
            // `ARRAY<` and its like are among them.
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
