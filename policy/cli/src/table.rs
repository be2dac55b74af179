//! `bulkhead check --table`: the effect of all rules together, so that a wildcard, a range or an order that says more than it
//! seems to is seen: for each caller and method what is always allowed, and what is allowed if a condition on more than the
//! message holds. What is not in it is refused.

use bulkhead_lang::Compiled;
use bulkhead_lang::policy::{Field, Presence};
use bulkhead_lang::regions::{self, Region};
use bulkhead_lang::tree::{Event, Space};

/// One line for each range of values, in an order that does not depend on the rules'.
pub(crate) fn lines(compiled: &Compiled) -> Vec<String> {
    let policy = &compiled.policy;
    let mut all = Vec::new();
    for place @ (subject, object, method) in regions::places(policy) {
        let (Some(subject), Some(row)) =
            (policy.subjects.get(usize::from(subject)), policy.objects.get(usize::from(object)))
        else {
            continue;
        };
        let Some(name) = row.methods.get(usize::from(method)).map(|method| &method.name) else { continue };
        let target = format!("{subject} -> {}.{name}", row.name);
        let fields = policy.fields(object, method, Event::Request);
        let bounds = regions::bounds(policy, place);
        let Some((surely, rest)) = bounds.ok().and_then(|bounds| {
            let surely = regions::merged(&bounds.surely).ok()?;
            let rest = regions::merged(&regions::difference(&bounds.perhaps, &surely).ok()?).ok()?;
            Some((surely, rest))
        }) else {
            all.push(format!("{target}: too many ranges to be shown"));
            continue;
        };
        for (region, word) in [(surely, "always"), (rest, "under a condition")] {
            all.extend(shown(&region, fields).into_iter().map(|values| format!("{target}({values}) {word}")));
        }
    }
    all.extend(policy.resources.iter().map(|resource| given("guest", resource)));
    let apps = policy.driven.iter().map(|(subject, resource)| {
        given(policy.subjects.get(usize::from(*subject)).map_or("?", String::as_str), resource)
    });
    all.extend(apps);
    all
}

fn given(who: &str, resource: &bulkhead_lang::policy::Resource) -> String {
    let last = resource.base + resource.size.saturating_sub(1);
    let interrupt = resource.interrupt.map_or(String::new(), |intid| format!(" interrupt {intid}"));
    let space = match resource.space {
        Space::Memory => String::new(),
        space => format!("{} ", space.word()),
    };
    format!("{who} uses {}: {space}{:#x}..{last:#x}{interrupt}", resource.name, resource.base)
}

fn shown(region: &Region, fields: &[Field]) -> Vec<String> {
    let cubes = region.iter().filter(|cube| !regions::is_empty(&vec![(*cube).clone()], fields));
    let value = |(field, range): (&Field, &(i128, i128))| {
        if range.0 <= field.range.0 && field.range.1 <= range.1 || field.presence != Presence::Always {
            return None;
        }
        let (low, high) = (field.show(range.0), field.show(range.1));
        Some(format!("{}: {}", field.label(), if range.0 == range.1 { low } else { format!("{low}..{high}") }))
    };
    cubes.map(|cube| fields.iter().zip(cube).filter_map(value).collect::<Vec<_>>().join(", ")).collect()
}
