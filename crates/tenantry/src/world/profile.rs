//! The profile that a world leaves for the client commands: `dev.json`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tenantry_api::SecretText;
use tenantry_domain::Secret;

use super::World;
use super::directory::write_private;
use super::error::WorldError;
use crate::data_directory::profile_path;

#[derive(Serialize, Deserialize)]
struct Profile {
    api_url: String,
    token: SecretText,
    catalog_url: SecretText,
}

/// Writes it, readable by its owner only.
pub(super) fn write(directory: &Path, world: &World) -> Result<(), WorldError> {
    let profile = Profile {
        api_url: world.api_url.clone(),
        token: SecretText::new(world.token.clone()),
        catalog_url: SecretText::new(world.catalog_url.clone()),
    };
    let path = profile_path(directory);
    let mut text = serde_json::to_vec_pretty(&profile).map_err(std::io::Error::from);
    if let Ok(text) = &mut text {
        text.push(b'\n');
    }
    text.and_then(|text| write_private(&path, &text)).map_err(WorldError::file("write", &path))
}

/// The token of an earlier run, if its profile is there and can be read. It may have been revoked since.
pub(super) fn earlier_token(directory: &Path) -> Option<Secret> {
    let text = std::fs::read(profile_path(directory)).ok()?;
    let profile: Profile = serde_json::from_slice(&text).ok()?;
    Some(profile.token.into_secret())
}
