//! `sluice token`: a token that nobody guesses, and the hash a project knows it by.

use serde_json::json;

use super::shell::digest_text;
use crate::app::App;
use crate::failure::Failure;

/// What tokens begin with, so that those who look for lost secrets in texts know them.
const PREFIX: &str = "sluice_";

/// Shows a new token with its hash; neither is kept.
pub(crate) fn token(app: &App) -> Result<(), Failure> {
    let ids = &app.environment.ids;
    // Two of 122 random bits each.
    let token = format!("{PREFIX}{}{}", ids.fresh(), ids.fresh());
    let hash = digest_text(&token);
    app.answer(
        || json!({ "token": token, "sha256": hash }),
        || format!("token   {token}\nsha256  {hash}\n"),
    )
}
