//! Content negotiation by the header `accept` (RFC 9110, section 12.5.1).

/// Media range of an `accept` header with its quality value in thousandths.
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    quality: u32,
}

fn range(text: &str) -> Option<Range<'_>> {
    let mut parts = text.split(';').map(str::trim);
    let (kind, subtype) = parts.next()?.split_once('/')?;
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    let quality = match weight.map(str::parse::<f32>) {
        None => 1_000,
        Some(Ok(weight)) if (0.0..=1.0).contains(&weight) => (weight * 1_000.0) as u32,
        Some(_) => 0,
    };
    Some(Range { kind, subtype, quality })
}

/// Quality value of `offer`: that of the most specific range that matches it.
fn quality(offer: &str, ranges: &[Range<'_>]) -> u32 {
    let (kind, subtype) = offer.split_once('/').unwrap_or((offer, ""));
    let matching = ranges.iter().filter_map(|range| {
        let is_kind = range.kind.eq_ignore_ascii_case(kind);
        let closeness = match (range.kind, range.subtype) {
            ("*", "*") => 0,
            (_, "*") if is_kind => 1,
            (_, exact) if is_kind && exact.eq_ignore_ascii_case(subtype) => 2,
            _ => return None,
        };
        Some((closeness, range.quality))
    });
    matching.max_by_key(|(closeness, _)| *closeness).map_or(0, |(_, quality)| quality)
}

/// Returns the preferred one of `offers`, the earliest if several have the same quality, and `None` if none is
/// acceptable. Without an `accept` header the first is preferred.
pub(super) fn preferred<'a>(accept: &str, offers: &[&'a str]) -> Option<&'a str> {
    if accept.trim().is_empty() {
        return offers.first().copied();
    }
    let ranges: Vec<_> = accept.split(',').filter_map(range).collect();
    let wanted = offers.iter().map(|offer| (quality(offer, &ranges), *offer));
    // `max_by_key` returns the last of equal elements, hence the reversal.
    let best = wanted.rev().max_by_key(|(quality, _)| *quality)?;
    (best.0 > 0).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERS: [&str; 2] = ["application/json", "text/html"];

    #[test]
    fn callers_get_the_form_they_prefer_and_the_first_if_they_do_not_say() {
        for (accept, expected) in [
            ("", Some("application/json")),
            ("*/*", Some("application/json")),
            ("text/html", Some("text/html")),
            ("TEXT/HTML;level=1", Some("text/html")),
            ("text/*", Some("text/html")),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Some("text/html")),
            ("text/html;q=0.3, application/json;q=0.7", Some("application/json")),
            ("application/json;q=0, */*", Some("text/html")),
            ("text/html;q=0, text/*;q=0.5, application/json;q=0.1", Some("application/json")),
            ("image/png", None),
            ("text/html;q=0", None),
            ("text/html;q=much", None),
            ("nonsense", None),
        ] {
            assert_eq!(preferred(accept, &OFFERS), expected, "{accept:?}");
        }
    }
}
