//! One reading finds everything.

use super::read;

/// Each line with `#!` has exactly as many things wrong as it has exclamation marks.
const FIFTY_WRONG: &str = r##"
wrokers = 2                                                #!
[gateway]
workers = 0                                                #!
data_dir = 7                                               #!
trusted_proxies = ["10.0.0.0/8", "everyone", "10.0.0.1/8"] #!!
nameservers = "10.0.0.2"                                   #!
grace_period = 30                                          #!
access_log = "yes"                                         #!
colour = "red"                                             #!
[gateway.limits]
header_bytes_max = 32768                                   #!
header_count_max = "100"                                   #!
header_read_timeout = "10"                                 #!
keep_alive_timeout = "9 weeks"                             #!
body_bytes_max = "4 gigs"                                  #!
connections_max = -1                                       #!
h2_stream_max = 1                                          #!
[[listener]]
address = "127.0.0.1:8080"
[[listener]]
address = "127.0.0.1:8080"                                 #!
[[listener]]
adress = "127.0.0.1:8081" #!
[[listener]]
address = "localhost:8082"                                 #!
tls = { certificate = "x" }                                #!
[control]
address = "0.0.0.0:9180"                                   #!
service_token_file = "x"                                   #!
[dns]                                                      #!
[transactions]
allow_hosts = "10.0.0.1"                                   #!
retention = "0 s"                                          #!
[transactions.protocols.saga]                              #!
[transactions.protocols."My Own"]                          #!
plugin = "sga"                                             #!
[plugins.own]
path = ""                                                  #!
sha256 = "zz"                                              #!
memory_max = "1 KiB"                                       #!
allow_hosts = ["a b", "10.0.0.1:0"]                        #!!
[plugins.Bad_Name]                                         #!
path = "x"
[services.orders]
endpoints = ["127.0.0.1:9001", "127.0.0.1:9001", "orders"] #!!
balancer = { plugin = "leest-request" }                    #!
failover = { plugin = "standrad" }                         #!
timeout = "0 s"                                            #!
idle_timeout = true                                        #!
protocol = "gopher"                                        #!
health_check = { path = "health", status = [700] }         #!!
retry = { attempts = 0 }                                   #!
ejection = { max_percent = 0 }                             #!
circuit = { requests = 0 }                                 #!
[services.payments]
endpoints = [{ address = "p:1", weight = 0, zone = 5 }]    #!!
connect_timeout = "1 day"                                  #!
[[route]]
path = "orders"                                            #!
service = "ordres"                                         #!
strip_prefix = "no"                                        #!
repeatable = "no"                                          #!
[[route]]
path = "/a/../b"                                           #!
host = "example.com:80"                                    #!
methods = ["get"]                                          #!
services = [{ name = "orders", weight = 70000 }]           #!
request_headers = { set = { host = "x" }, remove = ["te"] } #!!
hash_on = "cookie"                                         #!
expose = ["x y"]                                           #!
"##;

#[test]
fn fifty_wrong_things_are_all_found_each_on_its_line() {
    let errors = read(FIFTY_WRONG).expect_err("wrong");
    let mut wanted: Vec<usize> = Vec::new();
    for (index, line) in FIFTY_WRONG.lines().enumerate() {
        let marks = line.rsplit_once('#').map_or("", |(_, marks)| marks);
        wanted.extend(std::iter::repeat_n(index + 1, marks.bytes().filter(|&b| b == b'!').count()));
    }
    let found: Vec<usize> = errors.problems().iter().filter_map(|problem| problem.position).map(|at| at.line).collect();
    assert!(wanted.len() >= 50, "only {} are wrong", wanted.len());
    // The third listener lacks its address as well, which is shown at the table's own line.
    let missing = FIFTY_WRONG.lines().position(|line| line.starts_with("adress")).expect("it is there");
    wanted.push(missing);
    wanted.sort_unstable();
    assert_eq!(found, wanted, "\n{errors}");
}

#[test]
fn every_problem_is_one_line_that_names_its_key() {
    let errors = read(FIFTY_WRONG).expect_err("wrong");
    assert_eq!(errors.to_string().lines().count(), errors.problems().len());
    assert!(errors.problems().iter().all(|problem| !problem.key.is_empty()));
    assert!(errors.problems().is_sorted_by_key(|problem| problem.position));
}
