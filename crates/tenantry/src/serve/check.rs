//! `tenantry serve --check`: everything that would keep a replica from working, found before it is started.

use std::path::Path;

use serde::Serialize;
use tenantry_api::Page;
use tenantry_runtime::Loaded;
use tenantry_store::{ClusterFilter, PageRequest, Store};

use super::{ServeError, chain};
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::table::{Cell, Tabular};
use crate::config::Config;

/// What was looked at, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    subject: &'static str,
    verdict: Verdict,
    detail: String,
}

/// Whether it is as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// It is.
    Good,
    /// A replica would start, but somebody should know.
    Note,
    /// A replica would not work.
    Trouble,
}

/// What is found, in the order of looking.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

pub(super) async fn run(output: Output, file: Option<&Path>, no_migrate: bool) -> Result<(), CliError> {
    let findings = look(file, no_migrate).await.0;
    let troubles = findings.iter().filter(|finding| finding.verdict == Verdict::Trouble).count();
    output.list(&Page { items: findings, next: None })?;
    match troubles {
        0 => Ok(()),
        1 => Err(ServeError::Troubles { troubles: "1 trouble".to_owned() }.into()),
        many => Err(ServeError::Troubles { troubles: format!("{many} troubles") }.into()),
    }
}

async fn look(file: Option<&Path>, no_migrate: bool) -> Findings {
    let mut findings = Findings::default();
    match Config::load(file) {
        Ok(loaded) => {
            findings.good("configuration", sources(&loaded));
            look_at(&loaded.value, no_migrate, &mut findings).await;
        }
        Err(error) => findings.trouble("configuration", &error),
    }
    findings
}

async fn look_at(config: &Config, no_migrate: bool, findings: &mut Findings) {
    look_at_settings(config, findings);
    if let Some(store) = look_at_catalog(config, no_migrate, findings).await {
        look_at_content(&store, findings).await;
    }
}

/// What can be judged without asking anybody.
fn look_at_settings(config: &Config, findings: &mut Findings) {
    if let Err(error) = config.check() {
        // The settings of the door may be the ones that are wrong: nothing is said of it then.
        return findings.trouble("settings", &error);
    }
    let listen = config.server.listen;
    match (&config.server.tls, config.server.tls_terminated_upstream) {
        (Some(tls), _) => match tls.check() {
            Ok(()) => findings.good("server", format!("https on {listen}, with {}", tls.certificate.display())),
            Err(error) => findings.trouble("server", &error),
        },
        (None, true) => findings.note("server", format!("plain http on {listen}; a proxy in front must end TLS")),
        (None, false) => findings.good("server", format!("plain http on {listen}, for this machine only")),
    }
}

/// Whether the catalog can be reached, and how far it is. Changes nothing.
async fn look_at_catalog(config: &Config, no_migrate: bool, findings: &mut Findings) -> Option<Store> {
    let keyring = match config.secrets.keyring().await {
        Ok(keyring) => {
            findings.good("master keys", "readable".to_owned());
            Some(keyring)
        }
        Err(error) => {
            findings.trouble("master keys", &error);
            None
        }
    };
    let store_config = match config.catalog.store() {
        Ok(store_config) => store_config,
        Err(error) => {
            findings.trouble("catalog", &error);
            return None;
        }
    };
    let store = match Store::connect(&store_config, keyring?).await {
        Ok(store) => store,
        Err(error) => {
            findings.trouble("catalog", &error);
            return None;
        }
    };
    match store.pending_migrations().await {
        Ok(pending) if pending.is_empty() => {
            findings.good("catalog", "reachable and up to date".to_owned());
            Some(store)
        }
        Ok(pending) => {
            let list = pending.join(", ");
            if no_migrate {
                findings.trouble("catalog", &ServeError::Outdated { pending });
            } else {
                findings.note("catalog", format!("reachable; `serve` would apply {list}"));
            }
            None
        }
        Err(error) => {
            findings.trouble("catalog", &error);
            None
        }
    }
}

/// Whether somebody could use it: a token, a cluster, and keys that open what is sealed.
async fn look_at_content(store: &Store, findings: &mut Findings) {
    match store.count_tokens().await {
        Ok(0) => findings.note("tokens", "none; make the first with `tenantry token create --catalog`".to_owned()),
        Ok(number) => findings.good("tokens", format!("{number} valid")),
        Err(error) => findings.trouble("tokens", &error),
    }
    let first = PageRequest { limit: 1, cursor: None };
    match store.clusters(&ClusterFilter::default(), &first).await.map(|page| page.items.into_iter().next()) {
        Ok(None) => findings.note("clusters", "none; register one with `tenantry cluster register`".to_owned()),
        // Its password is sealed: reading it shows whether the keys are the right ones.
        Ok(Some(cluster)) => match store.cluster_access(cluster.id).await {
            Ok(_) => findings.good("clusters", "registered, and the master keys open their passwords".to_owned()),
            Err(error) => findings.trouble("clusters", &error),
        },
        Err(error) => findings.trouble("clusters", &error),
    }
}

fn sources(loaded: &Loaded<Config>) -> String {
    let file = loaded.file.as_ref().map(|file| file.display().to_string());
    let variables = (!loaded.variables.is_empty()).then(|| loaded.variables.join(", "));
    match (file, variables) {
        (None, None) => "defaults only".to_owned(),
        (file, variables) => file.into_iter().chain(variables).collect::<Vec<_>>().join("; "),
    }
}

impl Findings {
    fn good(&mut self, subject: &'static str, detail: String) {
        self.0.push(Finding { subject, verdict: Verdict::Good, detail });
    }

    fn note(&mut self, subject: &'static str, detail: String) {
        self.0.push(Finding { subject, verdict: Verdict::Note, detail });
    }

    fn trouble(&mut self, subject: &'static str, error: &dyn std::error::Error) {
        self.0.push(Finding { subject, verdict: Verdict::Trouble, detail: chain(error) });
    }
}

impl Tabular for Finding {
    const COLUMNS: &'static [&'static str] = &["subject", "verdict", "detail"];

    fn row(&self) -> Vec<Cell> {
        let verdict = match self.verdict {
            Verdict::Good => Cell::verdict("good", true),
            Verdict::Note => Cell::new("note"),
            Verdict::Trouble => Cell::verdict("trouble", false),
        };
        vec![Cell::new(self.subject), verdict, Cell::new(&self.detail)]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        Self::COLUMNS.iter().copied().zip(self.row()).collect()
    }
}

/// What was found, as `subject verdict`.
#[cfg(test)]
pub(super) async fn verdicts(config: &Config, no_migrate: bool) -> Vec<String> {
    let mut findings = Findings::default();
    look_at(config, no_migrate, &mut findings).await;
    let verdict = |finding: &Finding| serde_json::to_value(finding.verdict).expect("a word");
    let words =
        findings.0.iter().map(|finding| format!("{} {}", finding.subject, verdict(finding).as_str().expect("a word")));
    words.collect()
}
