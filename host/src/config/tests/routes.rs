//! `[[route]]`.

use super::{assert_one_problem, right_with};

fn route(more: &str) -> String {
    format!("[[route]]\nservice = \"orders\"\n{more}")
}

#[test]
fn a_route_goes_to_services_that_exist() {
    assert_one_problem(
        "[[route]]\npath = \"/\"\nservice = \"order\"",
        &["route[0].service", "did you mean \"orders\"?"],
    );
    assert_one_problem("[[route]]\npath = \"/\"", &["\"service\" is missing"]);
    assert_one_problem("[[route]]\npath = \"/\"\nservices = []", &["is empty"]);
    assert_one_problem(
        "[[route]]\npath = \"/\"\nservices = [{ name = \"zzz\" }]",
        &["services[0].name", "no service named"],
    );
    assert_one_problem("[[route]]\npath = \"/\"\nservices = [{ weight = 1 }]", &["\"name\" is missing"]);
    assert_one_problem(&route("path = \"/\"\nservices = [{ name = \"orders\" }]"), &["stands beside \"service\""]);
    let twice = "[[route]]\npath = \"/\"\nservices = [{ name = \"orders\" }, { name = \"orders\" }]";
    assert_one_problem(twice, &["services[1]", "already"]);
    let zero = "[[route]]\npath = \"/\"\nservices = [{ name = \"orders\", weight = 0 }]";
    assert_one_problem(zero, &["services[0].weight", "from 1 to 65535"]);
}

#[test]
fn a_route_to_a_service_with_problems_is_no_further_problem() {
    assert_one_problem("[services.x]\n[[route]]\npath = \"/\"\nservice = \"x\"", &["services.x: \"endpoints\""]);
}

#[test]
fn a_path_is_normal_as_the_paths_that_it_is_compared_with() {
    assert_one_problem(&route(""), &["\"path\" is missing"]);
    for (wrong, says) in [
        ("orders", "did you mean \"/orders\"?"),
        ("/a?b", "without '?'"),
        ("/a//b", "an empty segment"),
        ("/a/../b", "resolved before"),
        ("/a/.", "resolved before"),
        ("/a b", "written as an escape"),
        ("/é", "written as an escape"),
        ("/%4", "two hex digits"),
        ("/%zz", "two hex digits"),
        ("/%é", "two hex digits"),
        ("/%41", "write 'A'"),
        ("/%2e%2e/", "write '.'"),
    ] {
        assert_one_problem(&route(&format!("path = '{wrong}'")), &["route[0].path", says]);
    }
    assert_one_problem(&route("path = \"/a%2fb\"\ndecode_slash = true"), &["decode_slash turns into '/'"]);
    assert_eq!(right_with(&route("path = \"/a%2fb\"")).routes[0].path, "/a%2Fb");
}

#[test]
fn a_host_is_a_name_without_port() {
    for wrong in
        ["example.com:80", "exa mple", "", "*", "a.*.com", "*.", "example.com.", "*example.com", "http://a", "::1"]
    {
        assert_one_problem(&route(&format!("path = \"/\"\nhost = \"{wrong}\"")), &["route[0].host"]);
    }
    for right in ["example.com", "*.example.com", "localhost", "127.0.0.1", "[::1]"] {
        assert_eq!(
            right_with(&route(&format!("path = \"/\"\nhost = \"{right}\""))).routes[0].host.as_deref(),
            Some(right)
        );
    }
}

#[test]
fn methods_are_tokens_in_their_own_case() {
    assert_one_problem(&route("path = \"/\"\nmethods = [\"get\"]"), &["did you mean \"GET\"?"]);
    assert_one_problem(&route("path = \"/\"\nmethods = []"), &["leave \"methods\" out"]);
    assert_one_problem(&route("path = \"/\"\nmethods = [\"GET\", \"GET\"]"), &["methods[1]", "already"]);
    assert_one_problem(&route("path = \"/\"\nmethods = [\"A B\"]"), &["no HTTP method"]);
    right_with(&route("path = \"/\"\nmethods = [\"PURGE\"]"));
}

#[test]
fn two_routes_that_match_the_same_are_one_too_many() {
    let two = |first: &str, second: &str| format!("{}\n{}", route(first), route(second));
    assert_one_problem(&two("path = \"/a\"", "path = \"/a\""), &["route[1]", "the same host and path as route[0]"]);
    assert_one_problem(&two("path = \"/a\"", "path = \"/a/\""), &["the same host and path"]);
    assert_one_problem(
        &two("path = \"/a\"\nhost = \"X.com\"", "path = \"/a\"\nhost = \"x.com\""),
        &["the same host and path"],
    );
    assert_one_problem(
        &two("path = \"/a\"\nmethods = [\"GET\", \"PUT\"]", "path = \"/a\"\nmethods = [\"POST\", \"PUT\"]"),
        &["route[0] for PUT"],
    );
    right_with(&two("path = \"/a\"", "path = \"/a\"\nmethods = [\"GET\"]"));
    right_with(&two("path = \"/a\"", "path = \"/a\"\nhost = \"x.com\""));
    right_with(&two("path = \"/a\"", "path = \"/b\""));
}

#[test]
fn headers_that_would_break_framing_stay_the_gateways_own() {
    for name in [
        "Content-Length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "upgrade",
        "host",
        "expect",
    ] {
        for side in ["request_headers", "response_headers"] {
            let set = route(&format!("path = \"/\"\n{side} = {{ set = {{ \"{name}\" = \"1\" }} }}"));
            assert_one_problem(&set, &[&format!("route[0].{side}.set."), "only the gateway"]);
            let remove = route(&format!("path = \"/\"\n{side} = {{ remove = [\"{name}\"] }}"));
            assert_one_problem(&remove, &["remove[0]", "only the gateway"]);
        }
    }
}

#[test]
fn header_names_and_values_are_checked() {
    let set = |pair: &str| route(&format!("path = \"/\"\nrequest_headers = {{ set = {{ {pair} }} }}"));
    assert_one_problem(&set("\"x y\" = \"1\""), &["set.\"x y\"", "no header name"]);
    assert_one_problem(&set("x = \"a\\r\\nevil: 1\""), &["set.x", "cannot be a header's value"]);
    assert_one_problem(&set("x = \" a\""), &["cannot be a header's value"]);
    assert_one_problem(&set("x = 1"), &["a string, not an integer"]);
    assert_one_problem(&set("X-A = \"1\", x-a = \"2\""), &["set already"]);
    assert_one_problem(&route("path = \"/\"\nexpose = [\"x-a\", \"X-A\"]"), &["expose[1]", "already"]);
    assert_one_problem(&route("path = \"/\"\nexpose = [\"\"]"), &["no header name"]);
}

#[test]
fn a_request_is_hashed_on_one_thing() {
    for right in
        ["\"path\"", "\"client-address\"", "{ cookie = \"id\" }", "{ query = \"id\" }", "{ header = \"x-id\" }"]
    {
        assert!(right_with(&route(&format!("path = \"/\"\nhash_on = {right}"))).routes[0].hash_on.is_some());
    }
    for wrong in
        ["\"cookie\"", "{}", "{ cookie = \"a\", query = \"b\" }", "{ header = \"\" }", "{ cookie = \"\" }", "5"]
    {
        assert_one_problem(&route(&format!("path = \"/\"\nhash_on = {wrong}")), &["hash_on"]);
    }
    assert_one_problem(&route("path = \"/\"\nhash_on = { heder = \"x\" }"), &["did you mean \"header\"?"]);
}
