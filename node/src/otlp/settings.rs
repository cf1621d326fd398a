//! Reads where to export traces from OpenTelemetry's environment variables.

use thiserror::Error;
use tonic::codegen::http::Uri;

/// Endpoint for traces.
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
/// Endpoint for all signals.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// Protocol for traces.
const TRACES_PROTOCOL: &str = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL";
/// Protocol for all signals.
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
/// Whether OpenTelemetry is off.
const DISABLED: &str = "OTEL_SDK_DISABLED";
/// Exporter of traces: `otlp` or `none`.
const TRACES_EXPORTER: &str = "OTEL_TRACES_EXPORTER";
/// Headers for every request, such as a token; they are not supported.
const HEADERS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
/// Name of the service.
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
/// Default name of the service.
const DEFAULT_SERVICE: &str = "alys-node";

/// Where traces are exported to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpSettings {
    /// Endpoint of the collector, `http://host:port`.
    pub endpoint: Uri,
    /// Name of the service in traces.
    pub service: String,
}

/// An environment variable with an unsupported value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("environment variable {variable} is {value:?}; expected {expected}")]
pub struct OtlpError {
    /// Name of the variable.
    pub variable: &'static str,
    /// Value of the variable.
    pub value: String,
    /// Values that are supported.
    pub expected: &'static str,
}

impl OtlpSettings {
    /// Reads the settings through `variable`, which returns the value of a variable by name. Returns `None` if no
    /// endpoint is set or export is off.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, OtlpError> {
        let value = |name: &'static str| variable(name).filter(|value| !value.trim().is_empty());
        let first = |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, value(name)?)));
        let Some((name, text)) = first([TRACES_ENDPOINT, ENDPOINT]) else { return Ok(None) };
        // By the specification, anything but `true` is false.
        if value(DISABLED).is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        match value(TRACES_EXPORTER) {
            Some(exporter) if exporter.trim() == "none" => return Ok(None),
            Some(exporter) if exporter.trim() != "otlp" => {
                return Err(OtlpError {
                    variable: TRACES_EXPORTER,
                    value: exporter,
                    expected: "otlp or none",
                });
            }
            _ => {}
        }
        if let Some((variable, value)) = first([TRACES_PROTOCOL, PROTOCOL])
            && value.trim() != "grpc"
        {
            return Err(OtlpError { variable, value, expected: "grpc" });
        }
        if let Some((variable, _)) = first(HEADERS) {
            let (value, expected) = ("not shown".to_owned(), "none: a collector is asked without headers");
            return Err(OtlpError { variable, value, expected });
        }
        let endpoint = text.trim().parse::<Uri>().ok().filter(|uri| {
            let is_named = uri.host().is_some_and(|host| !host.is_empty());
            let is_whole = is_named && uri.port_u16().is_some_and(|port| port != 0) && uri.query().is_none();
            uri.scheme_str() == Some("http") && is_whole && matches!(uri.path(), "" | "/")
        });
        let expected =
            "http://host:port of a collector that takes OTLP over gRPC, such as http://127.0.0.1:4317";
        let endpoint = endpoint.ok_or(OtlpError { variable: name, value: text, expected })?;
        let service = value(SERVICE_NAME).unwrap_or_else(|| DEFAULT_SERVICE.to_owned());
        Ok(Some(Self { endpoint, service }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<OtlpSettings>, OtlpError> {
        OtlpSettings::read(|name| {
            variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn an_endpoint_turns_traces_on_and_nothing_else_does() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[(ENDPOINT, " "), (PROTOCOL, "http/json"), (SERVICE_NAME, "x")]), Ok(None));
        let named = read(&[(ENDPOINT, "http://collector:4317")]).expect("well-formed").expect("on");
        assert_eq!(
            (named.endpoint.to_string().as_str(), named.service.as_str()),
            ("http://collector:4317/", "alys-node")
        );
        let both = [
            (ENDPOINT, "nonsense"),
            (TRACES_ENDPOINT, "http://[::1]:4317/"),
            (PROTOCOL, "grpc"),
            (SERVICE_NAME, "member"),
        ];
        let named = read(&both).expect("the more special one counts").expect("on");
        assert_eq!((named.endpoint.port_u16(), named.service.as_str()), (Some(4317), "member"));
    }

    #[test]
    fn export_is_off_where_opentelemetry_is_or_its_traces_are() {
        let read = |name, value| read(&[(ENDPOINT, "http://c:4317"), (name, value)]);
        for (name, value) in [(DISABLED, "true"), (DISABLED, " TRUE "), (TRACES_EXPORTER, "none")] {
            assert_eq!(read(name, value), Ok(None), "{name}={value}");
        }
        for (name, value) in [(DISABLED, "false"), (DISABLED, "1"), (TRACES_EXPORTER, "otlp")] {
            assert!(read(name, value).is_ok_and(|settings| settings.is_some()), "{name}={value}");
        }
        let refused = read(TRACES_EXPORTER, "console").expect_err("not built in").to_string();
        assert_eq!(
            refused,
            "environment variable OTEL_TRACES_EXPORTER is \"console\"; expected otlp or none"
        );
    }

    #[test]
    fn a_wrong_variable_is_named_with_its_value_and_what_was_expected() {
        for wrong in [
            "4317",
            "localhost:4317",
            "https://c:4317",
            "http://c",
            "http://c:4317/v1/traces",
            "http://c:x",
            "http://c:0",
            "http://c:65536",
            "http://:4317",
            "http://c:4317/?token",
            "http://\u{fffd}:4317",
        ] {
            let refused = read(&[(ENDPOINT, wrong)]).expect_err(wrong).to_string();
            let begins =
                format!("environment variable OTEL_EXPORTER_OTLP_ENDPOINT is {wrong:?}; expected http://");
            assert!(refused.starts_with(&begins), "{refused}");
        }
        let refused =
            read(&[(ENDPOINT, "http://c:4318"), (PROTOCOL, "http/protobuf")]).expect_err("not spoken");
        assert_eq!(
            refused.to_string(),
            "environment variable OTEL_EXPORTER_OTLP_PROTOCOL is \"http/protobuf\"; expected grpc"
        );
        // The variable for traces takes precedence, whichever of the two is supported.
        let both = |traces: &'static str, all: &'static str| {
            read(&[(ENDPOINT, "http://c:4317"), (TRACES_PROTOCOL, traces), (PROTOCOL, all)])
        };
        assert!(both("grpc", "http/json").is_ok());
        let refused = both("http/json", "grpc").expect_err("not spoken").to_string();
        assert!(
            refused.starts_with("environment variable OTEL_EXPORTER_OTLP_TRACES_PROTOCOL is"),
            "{refused}"
        );
        // A collector that requires a header would accept nothing; the value is secret.
        let refused = read(&[(ENDPOINT, "http://c:4317"), (HEADERS[1], "authorization=Bearer secret")]);
        let refused = refused.expect_err("not sent").to_string();
        assert!(refused.contains("OTEL_EXPORTER_OTLP_HEADERS") && !refused.contains("secret"), "{refused}");
    }
}
