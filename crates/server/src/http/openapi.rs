//! The OpenAPI document: what the handlers say of themselves, and what holds for all of them.

use tenantry_api::problem::PROBLEM_MEDIA_TYPE;
use tenantry_api::{Code, Problem, ProblemDetail};
use utoipa::OpenApi;
use utoipa::openapi::content::Content;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, Ref, RefOr, Required, Schema};

const BEARER: &str = "bearer";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tenantry",
        description = "Gives every tenant a PostgreSQL home of its own: provisioned, migrated and routed.\n\n\
                       Times are RFC 3339 in UTC. A tenant is named by id or slug, a cluster by id or name. Unknown \
                       fields are refused. Every failure is a problem document with a stable `code`.",
    ),
    tags(
        (name = "tenants", description = "Customer organisations"),
        (name = "clusters", description = "PostgreSQL servers that homes are placed on"),
        (name = "plans", description = "What a tenant is given by default"),
        (name = "operations", description = "Durable work"),
        (name = "migrations", description = "Migration sets and their rollouts over the fleet"),
        (name = "routes", description = "What routers need, and who they are"),
        (name = "tokens", description = "Who may ask"),
        (name = "webhooks", description = "Who is told of what happens"),
        (name = "secrets", description = "What seals the passwords in the catalog"),
        (name = "audit", description = "Who did what"),
        (name = "service", description = "This server itself"),
    ),
    components(schemas(Code, Problem, ProblemDetail)),
)]
pub(crate) struct Base;

/// The document that `/openapi.json` answers with.
pub fn openapi_document() -> Document {
    let (_, mut document) = super::routes::documented().split_for_parts();
    say_what_is_common(&mut document);
    document
}

/// What holds for every operation, said once.
fn say_what_is_common(document: &mut Document) {
    let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API token"));
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(BEARER, SecurityScheme::Http(token.build()));
    components.schemas.values_mut().for_each(forget_null_defaults);
    for (path, item) in &mut document.paths.paths {
        let is_protected = path.starts_with("/v1/");
        if let Some(post) = &mut item.post
            && is_protected
        {
            post.parameters.get_or_insert_default().push(idempotency_key().into());
        }
        for operation in operations(item) {
            if is_protected {
                operation.security = Some(vec![SecurityRequirement::new(BEARER, Vec::<String>::new())]);
            }
            operation.responses.responses.entry("default".to_owned()).or_insert_with(|| problem().into());
        }
    }
}

/// In a change, absent keeps a value and null removes it. A default of null would say that both are the same.
fn forget_null_defaults(schema: &mut RefOr<Schema>) {
    let RefOr::T(Schema::Object(object)) = schema else { return };
    for property in object.properties.values_mut() {
        let default = match property {
            RefOr::T(Schema::Object(property)) => &mut property.default,
            RefOr::T(Schema::Array(property)) => &mut property.default,
            RefOr::T(Schema::OneOf(property)) => &mut property.default,
            RefOr::T(Schema::AllOf(property)) => &mut property.default,
            RefOr::T(Schema::AnyOf(property)) => &mut property.default,
            _ => continue,
        };
        if default.as_ref().is_some_and(serde_json::Value::is_null) {
            *default = None;
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete].into_iter().flatten()
}

fn idempotency_key() -> Parameter {
    ParameterBuilder::new()
        .name("idempotency-key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Sent again under the same key within 24 hours, the request is answered as it was the first time; another \
             request under the key is refused",
        ))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).max_length(Some(255)).build()))
        .build()
}

fn problem() -> utoipa::openapi::Response {
    let text = || HeaderBuilder::new().schema(Some(ObjectBuilder::new().schema_type(Type::String)));
    ResponseBuilder::new()
        .description("A problem (RFC 9457); `code` says which, and its status goes with it")
        .content(PROBLEM_MEDIA_TYPE, Content::new(Some(Ref::from_schema_name("Problem"))))
        .header("x-request-id", text().description(Some("Finds the request in the log")).build())
        .build()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    use super::*;

    /// Every URL of this contract, by hand: a route that is lost or renamed must fail here.
    const ROUTES: &[(&str, &[&str])] = &[
        ("/v1/tenants", &["get", "post"]),
        ("/v1/tenants/bulk", &["post"]),
        ("/v1/tenants/{tenant}", &["delete", "get", "patch"]),
        ("/v1/tenants/{tenant}/operations", &["get"]),
        ("/v1/tenants/{tenant}/purge", &["post"]),
        ("/v1/tenants/{tenant}/suspend", &["post"]),
        ("/v1/tenants/{tenant}/resume", &["post"]),
        ("/v1/tenants/{tenant}/restore", &["post"]),
        ("/v1/clusters", &["get", "post"]),
        ("/v1/clusters/{cluster}", &["delete", "get", "patch"]),
        ("/v1/clusters/{cluster}/cordon", &["post"]),
        ("/v1/clusters/{cluster}/uncordon", &["post"]),
        ("/v1/clusters/{cluster}/drain", &["post"]),
        ("/v1/clusters/{cluster}/replicas", &["get", "post"]),
        ("/v1/clusters/{cluster}/replicas/{replica}", &["delete"]),
        ("/v1/placement/explain", &["get", "post"]),
        ("/v1/region-groups", &["get"]),
        ("/v1/region-groups/{group}", &["delete", "get", "put"]),
        ("/v1/plans", &["get", "post"]),
        ("/v1/plans/{plan}", &["delete", "get", "patch"]),
        ("/v1/tenants/{tenant}/effective-plan", &["get"]),
        ("/v1/tenants/{tenant}/explain", &["get"]),
        ("/v1/tenants/adopt", &["post"]),
        ("/v1/tenants/{tenant}/adopt-confirm", &["post"]),
        ("/v1/tenants/{tenant}/adopt-cancel", &["post"]),
        ("/v1/tenants/{tenant}/rotate-credentials", &["post"]),
        ("/v1/tenants/{tenant}/migrate-down", &["post"]),
        ("/v1/tenants/{tenant}/health", &["get"]),
        ("/v1/tenants/{tenant}/hosts", &["get", "post"]),
        ("/v1/tenants/{tenant}/hosts/{host}", &["delete"]),
        ("/v1/operations", &["get"]),
        ("/v1/operations/{operation}", &["get"]),
        ("/v1/operations/{operation}/timeline", &["get"]),
        ("/v1/operations/{operation}/cancel", &["post"]),
        ("/v1/operations/{operation}/retry", &["post"]),
        ("/v1/operations/{operation}/skip", &["post"]),
        ("/v1/operations/{operation}/abandon", &["post"]),
        ("/v1/operations/{operation}/events", &["get"]),
        ("/v1/migration-sets", &["get", "post"]),
        ("/v1/migration-sets/{set}", &["get"]),
        ("/v1/seeds", &["get", "post"]),
        ("/v1/seeds/{seed}", &["delete", "get"]),
        ("/v1/query", &["post"]),
        ("/v1/rollouts", &["get", "post"]),
        ("/v1/rollouts/plan", &["post"]),
        ("/v1/rollouts/dry-run", &["post"]),
        ("/v1/rollouts/{rollout}", &["get"]),
        ("/v1/rollouts/{rollout}/pause", &["post"]),
        ("/v1/rollouts/{rollout}/resume", &["post"]),
        ("/v1/rollouts/{rollout}/abort", &["post"]),
        ("/v1/rollouts/{rollout}/retry", &["post"]),
        ("/v1/rollouts/{rollout}/targets", &["get"]),
        ("/v1/rollouts/{rollout}/versions", &["get"]),
        ("/v1/rollouts/{rollout}/events", &["get"]),
        ("/v1/drift", &["get", "post"]),
        ("/v1/drift/{tenant}", &["get"]),
        ("/v1/routes/feed", &["get"]),
        ("/v1/routes/resolve", &["get"]),
        ("/v1/routers", &["get"]),
        ("/v1/routers/{router}/report", &["post"]),
        ("/v1/tokens", &["get", "post"]),
        ("/v1/tokens/{token}", &["delete"]),
        ("/v1/webhooks", &["get", "post"]),
        ("/v1/webhooks/{webhook}", &["delete", "get", "patch"]),
        ("/v1/webhooks/{webhook}/rotate-secret", &["post"]),
        ("/v1/webhooks/{webhook}/test", &["post"]),
        ("/v1/webhooks/{webhook}/deliveries", &["get"]),
        ("/v1/webhooks/{webhook}/deliveries/{delivery}/redeliver", &["post"]),
        ("/v1/secrets", &["get"]),
        ("/v1/secrets/rotate-master", &["post"]),
        ("/v1/audit-log", &["get"]),
        ("/v1/orphans", &["get"]),
        ("/v1/orphans/{orphan}", &["get"]),
        ("/v1/orphans/scan", &["post"]),
        ("/v1/orphans/{orphan}/remove", &["post"]),
        ("/v1/doctor", &["get"]),
        ("/v1/clusters/{cluster}/doctor", &["get"]),
        ("/v1/audit-log/chains", &["get"]),
        ("/v1/audit-log/export", &["get"]),
        ("/healthz", &["get"]),
        ("/readyz", &["get"]),
        ("/metrics", &["get"]),
    ];
    const METHODS: [&str; 5] = ["get", "post", "patch", "delete", "put"];

    fn document() -> Value {
        serde_json::to_value(openapi_document()).expect("a document is JSON")
    }

    fn each_operation(document: &Value) -> Vec<(String, Value)> {
        let paths = document["paths"].as_object().expect("paths");
        let operation = |(path, item): (&String, &Value)| {
            let known = METHODS.iter().filter_map(|method| Some((*method, item.get(*method)?.clone())));
            known.map(|(method, operation)| (format!("{method} {path}"), operation)).collect::<Vec<_>>()
        };
        paths.iter().flat_map(operation).collect()
    }

    #[test]
    fn every_route_of_the_contract_is_documented_and_no_other() {
        let document = document();
        let documented: BTreeSet<String> = each_operation(&document).into_iter().map(|(name, _)| name).collect();
        let wanted = |(path, methods): &(&str, &[&str])| {
            methods.iter().map(|method| format!("{method} {path}")).collect::<Vec<_>>()
        };
        let wanted: BTreeSet<String> = ROUTES.iter().flat_map(wanted).collect();
        assert_eq!(documented, wanted);
    }

    #[test]
    fn no_new_tenant_is_called_as_something_beside_it() {
        let document = document();
        let beside = document["paths"].as_object().expect("paths").keys().filter_map(|path| {
            path.strip_prefix("/v1/tenants/")?.split('/').next().filter(|word| !word.starts_with('{'))
        });
        let words: BTreeSet<&str> = beside.collect();
        assert!(words.contains("bulk"), "{words:?}");
        for word in words {
            let slug = tenantry_domain::Slug::parse(word);
            assert!(slug.is_err() || slug.is_ok_and(|slug| slug.check_new().is_err()), "{word}");
        }
    }

    #[test]
    fn operation_ids_are_unique_and_links_lead_to_them() {
        let document = document();
        let operations = each_operation(&document);
        let mut parameters_of = BTreeMap::new();
        for (name, operation) in &operations {
            let id = operation["operationId"].as_str().expect("an id").to_owned();
            let names = operation["parameters"].as_array().cloned().unwrap_or_default();
            let names: BTreeSet<String> =
                names.iter().map(|parameter| parameter["name"].as_str().expect("a name").to_owned()).collect();
            assert!(parameters_of.insert(id.clone(), names).is_none(), "{name}: {id} is there twice");
        }
        let mut links = 0;
        for (name, operation) in &operations {
            for response in operation["responses"].as_object().expect("responses").values() {
                for link in response["links"].as_object().into_iter().flat_map(|links| links.values()) {
                    let target = link["operationId"].as_str().expect("a target");
                    let known = parameters_of.get(target).unwrap_or_else(|| panic!("{name} links to {target}"));
                    for parameter in link["parameters"].as_object().into_iter().flat_map(|map| map.keys()) {
                        assert!(known.contains(parameter), "{name} links to {target} with {parameter}");
                    }
                    links += 1;
                }
            }
        }
        assert!(links > 20, "{links}");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(map) => {
                    for (key, value) in map {
                        match value.as_str() {
                            Some(target) if key == "$ref" => {
                                found.insert(target.to_owned());
                            }
                            _ => references(value, found),
                        }
                    }
                }
                Value::Array(items) => items.iter().for_each(|item| references(item, found)),
                _ => {}
            }
        }
        let document = document();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for target in found {
            let pointer = target.strip_prefix('#').expect("a local reference");
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
    }

    #[test]
    fn no_default_is_null() {
        fn check(value: &Value) {
            match value {
                Value::Object(map) => {
                    assert_ne!(map.get("default"), Some(&Value::Null), "{value}");
                    map.values().for_each(check);
                }
                Value::Array(items) => items.iter().for_each(check),
                _ => {}
            }
        }
        check(&document());
    }

    #[test]
    fn path_parameters_are_those_of_the_path() {
        for (name, operation) in each_operation(&document()) {
            let in_path: BTreeSet<&str> = name.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect();
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let documented: Vec<&str> = parameters
                .iter()
                .filter(|parameter| parameter["in"] == "path")
                .filter_map(|parameter| parameter["name"].as_str())
                .collect();
            assert_eq!(documented.len(), in_path.len(), "{name}: {documented:?}");
            assert_eq!(documented.into_iter().collect::<BTreeSet<_>>(), in_path, "{name}");
            let mut seen = BTreeSet::new();
            for parameter in &parameters {
                assert!(
                    seen.insert((parameter["in"].to_string(), parameter["name"].to_string())),
                    "{name}: {parameter}"
                );
            }
        }
    }

    #[test]
    fn every_call_of_the_api_needs_a_token_and_may_fail() {
        for (name, operation) in each_operation(&document()) {
            let is_protected = name.contains(" /v1/");
            assert_eq!(operation["security"].is_array(), is_protected, "{name}");
            let problem = &operation["responses"]["default"]["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(problem, "#/components/schemas/Problem", "{name}");
            assert!(operation["summary"].is_string(), "{name}");
        }
    }
}
