//! Parts: files of statements with typed parameters, imported by name as often as wanted. `$NAME` stands for a parameter; what a part
//! declares gets the import's name in front, `p1_NAME`, so that two imports have nothing in common.

use std::collections::BTreeSet;

use crate::check::Checker;
use crate::diagnostic::{Diagnostic, Source, Sources, twice};
use crate::lexer::{self, Placed, Token};
use crate::names::DECLARING;
use crate::parser::{self, STATEMENTS};
use crate::policy::Policy;
use crate::reasons;
use crate::tree::{self, Constant, Import, Interface, Item};

/// The type of a parameter that stands for the name of something.
const NAME: &str = "name";

/// A name that a part declares: as it is after the import, as it is in the part, and the import's.
pub(crate) struct Renamed {
    new: String,
    old: String,
    import: String,
}

/// Says of names that are declared twice where they come from, if from parts: `a_b` of an import `x` and `b` of an import `x_a`
/// are one.
pub(crate) fn tell_origins(all: &[Renamed], findings: &mut [Diagnostic]) {
    for finding in findings {
        let origins: Vec<String> = all
            .iter()
            .filter(|name| finding.message == twice(&name.new))
            .map(|name| format!("`{}` of the import `{}`", name.old, name.import))
            .collect();
        if !origins.is_empty() {
            finding.message = format!("{}: it is {}", finding.message, origins.join(", and "));
            finding.help =
                "an import's name and an underscore stand before its part's names: give the import another name"
                    .to_string();
        }
    }
}

/// The statements of a part, with the parameters' values in their places.
pub(crate) fn items(
    sources: &mut Sources,
    import: &Import,
    text: String,
    renamed: &mut Vec<Renamed>,
    findings: &mut Vec<Diagnostic>,
) -> Vec<Item> {
    let known = sources.0.iter().position(|source| source.name == import.file);
    let file = known.unwrap_or(sources.0.len());
    let mut errors = Vec::new();
    let tokens = lexer::tokens(file, &text, &mut errors);
    if known.is_none() {
        sources.0.push(Source { name: import.file.clone(), text });
        findings.append(&mut errors);
    }
    let fields = match parser::part(&tokens) {
        Ok(fields) => fields,
        Err(error) => {
            findings.push(error);
            return Vec::new();
        }
    };
    let before = findings.len();
    check(import, &fields, findings);
    if findings.len() > before {
        return Vec::new();
    }
    let declared = declared(&tokens);
    renamed.extend(declared.iter().map(|word| {
        let (old, import) = (word.clone(), import.name.text.clone());
        Renamed { new: format!("{import}_{old}"), old, import }
    }));
    let mut all: Vec<Placed> = Vec::new();
    for placed in &tokens {
        let last = all.last().map(|placed| placed.token.clone());
        match &placed.token {
            Token::Word(word) if word.starts_with('$') => {
                let value =
                    import.arguments.iter().find(|(name, ..)| Some(name.text.as_str()) == word.strip_prefix('$'));
                let Some((_, _, value)) = value else {
                    let names: Vec<String> = fields.iter().map(|field| format!("${}", field.name.text)).collect();
                    let help = format!("its parameters: {}", names.join(", "));
                    findings.push(Diagnostic::error(placed.span, format!("the part has no parameter `{word}`"), help));
                    continue;
                };
                // Findings show the place in the part.
                let value = value.iter().enumerate();
                let value = value.map(|(at, token)| Placed {
                    token: token.clone(),
                    span: placed.span,
                    starts_line: at == 0 && placed.starts_line,
                });
                all.extend(value);
            }
            Token::Word(word) if declared.contains(word) && last != Some(Token::Mark(".")) => {
                all.push(Placed { token: Token::Word(format!("{}_{word}", import.name.text)), ..placed.clone() });
            }
            Token::Text(text) if last == Some(Token::Word("test".to_string())) => {
                all.push(Placed { token: Token::Text(format!("{}: {text}", import.name.text)), ..placed.clone() });
            }
            Token::Text(text) if last == Some(Token::Word("because".to_string())) => {
                all.push(Placed { token: Token::Text(reason(text, import, &declared)), ..placed.clone() });
            }
            _ => all.push(placed.clone()),
        }
    }
    let mut statements = parser::items(&all, findings);
    for item in &statements {
        if let Item::Include(_, span) | Item::Import(Import { span, .. }) = item {
            findings.push(Diagnostic::error(
                *span,
                "a part stands for itself",
                "include or import the other file in site.policy",
            ));
        }
    }
    statements.retain(|item| !matches!(item, Item::Part | Item::Include(..) | Item::Import(_)));
    statements
}

/// A reason with the import's own names and values in its braces.
fn reason(text: &str, import: &Import, declared: &[String]) -> String {
    let own = declared.iter().map(|name| (name.clone(), format!("{{{}_{name}}}", import.name.text)));
    let values = import.arguments.iter().map(|(name, value, _)| (format!("${}", name.text), reasons::constant(value)));
    own.chain(values).fold(text.to_string(), |text, (name, told)| text.replace(&format!("{{{name}}}"), &told))
}

/// Whether an import gives each parameter a value of its type.
fn check(import: &Import, fields: &[tree::Field], findings: &mut Vec<Diagnostic>) {
    let mut checker = Checker::for_policy(Policy::default(), findings);
    for (name, ..) in &import.arguments {
        if !fields.iter().any(|field| field.name.text == name.text) {
            checker.unknown(name, "parameter", fields.iter().map(|field| field.name.text.as_str()));
        }
        if import.arguments.iter().filter(|(other, ..)| other.text == name.text).count() > 1 {
            checker.twice(name);
        }
    }
    let nothing = Interface {
        name: import.name.clone(),
        enums: Vec::new(),
        flags: Vec::new(),
        records: Vec::new(),
        errors: Vec::new(),
        methods: Vec::new(),
    };
    for field in fields {
        let Some((_, value, _)) = import.arguments.iter().find(|(name, ..)| name.text == field.name.text) else {
            let help = format!("import \"{}\" as {} with {} = …", import.file, import.name.text, field.name.text);
            checker.error(import.span, format!("the parameter `{}` has no value", field.name.text), help);
            continue;
        };
        match value {
            Constant::Word(_) if field.kind.text == NAME => {}
            Constant::Number(number) if field.kind.text == NAME => {
                checker.error(number.span, "a name is needed here", "name an app, a service, a subject, …");
            }
            value => {
                let field = checker.field(&nothing, field);
                let kind = crate::policy::Kind { values: field.range, ..field.kind };
                let _ = checker.constant(value, &kind, &field.name);
            }
        }
    }
}

/// The names that a part declares: of statements, and of rules.
fn declared(tokens: &[Placed]) -> Vec<String> {
    let word = |at: usize| match tokens.get(at).map(|placed| &placed.token) {
        Some(Token::Word(word)) => Some(word.as_str()),
        _ => None,
    };
    // What stands inside an interface is named by way of it.
    let is_statement = |word: &str| word != "policy" && DECLARING.contains(&word) && STATEMENTS.contains(&word);
    let is_declared = |at: usize| {
        let begins = tokens.get(at).is_some_and(|placed| placed.starts_line);
        word(at) == Some("as") || begins && word(at).is_some_and(is_statement) && word(at + 2) != Some("to")
    };
    let all = (0..tokens.len()).filter(|&at| is_declared(at)).filter_map(|at| word(at + 1));
    let all: BTreeSet<String> = all.map(str::to_string).collect();
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use crate::{Compiled, compile};

    const MAIN: &str = "edition 1\npolicy p\ninterface Drive {\n method set(unit: u8 in 1..4, speed: u16 in 0.00..60.00 step 0.01 unit Hz) -> ()\n}\n\
        app d\nservice drive: Drive by d\n\
        import \"pump.policy\" as p1 with unit = 1, limit = 50.00 Hz, target = drive\n\
        import \"pump.policy\" as p2 with unit = 2, limit = 30 Hz, target = drive\n";
    const PART: &str = "edition 1\npart pump(unit: u8 in 1..4, limit: u16 in 0.00..55.00 step 0.01 unit Hz, target: name)\n\
        counter sets in 0..2\n\
        allow guest $target.set when unit == $unit and speed <= $limit and sets < 2\n then count sets as set_speed\n\
        let slow = 5.00 Hz\n\
        deny guest $target.set when unit == $unit and speed < slow because \"{speed} is below {slow}; at most {$limit}\"\n\
        never guest $target.set when unit == $unit and speed above $limit\n\
        test \"limit\" {\n guest -> $target.set($unit, $limit) allowed by set_speed\n expect sets == 1\n}\n";

    fn build(main: &str, part: &str) -> Result<Compiled, String> {
        let mut load = |name: &str| match name {
            "site.policy" => Ok(main.to_string()),
            "pump.policy" => Ok(part.to_string()),
            _ => Err("not found".to_string()),
        };
        compile(&mut load, "site.policy").map_err(|report| {
            report.findings.iter().map(|finding| finding.render(&report.sources).to_string()).collect()
        })
    }

    #[test]
    fn two_imports_have_nothing_in_common() {
        let compiled = build(MAIN, PART).unwrap();
        let names: Vec<&str> = compiled.policy.states.iter().map(|state| state.name.as_str()).collect();
        assert_eq!(names, ["p1_sets", "p2_sets"]);
        let rules: Vec<Option<&str>> = compiled.policy.rules.iter().map(|rule| rule.name.as_deref()).collect();
        assert_eq!(rules, [Some("p1_set_speed"), None, Some("p2_set_speed"), None]);
        let told: Vec<&str> =
            compiled.policy.rules.iter().filter_map(|rule| Some(rule.because.as_ref()?.told.as_str())).collect();
        assert_eq!(told[1], "{speed=scaled 1 2 Hz} is below 5.00 Hz; at most 30 Hz");
        let tests: Vec<&str> = compiled.policy.tests.iter().map(|test| test.name.as_str()).collect();
        assert_eq!(tests, ["p1: limit", "p2: limit"]);
    }

    #[test]
    fn names_of_two_imports_that_meet_are_told_apart_by_their_origins() {
        let main = MAIN.replace("as p2", "as p1_old");
        let part = PART.replacen("counter sets", "counter old_sets in 0..2\ncounter sets", 1);
        let error = build(&main, &part).unwrap_err();
        let origins =
            "`p1_old_sets` is declared twice: it is `old_sets` of the import `p1`, and `sets` of the import `p1_old`";
        assert!(error.contains(origins) && error.contains("give the import another name"), "{error}");
        assert!(build(&main, PART).is_ok(), "nothing meets");
        let error = build(&format!("{MAIN}counter p1_sets in 0..1\n"), PART).unwrap_err();
        assert!(error.contains("`p1_sets` is declared twice: it is `sets` of the import `p1`"), "{error}");
    }

    #[test]
    fn what_does_not_fit_a_part_is_refused_with_its_place() {
        for (right, wrong, message) in [
            ("limit = 50.00 Hz", "limit = 55.01 Hz", "site.policy:8:51"),
            ("limit = 50.00 Hz", "limit = 50.00 rpm", "is not the unit"),
            ("limit = 50.00 Hz, ", "", "the parameter `limit` has no value"),
            ("unit = 1,", "unit = 5,", "never 5"),
            ("unit = 1,", "units = 1,", "did you mean `unit`?"),
            ("unit = 1,", "unit = 1, unit = 1,", "declared twice"),
            ("target = drive\nimport", "target = 7\nimport", "a name is needed"),
            ("as p2", "as p1", "declared twice"),
            ("\"pump.policy\" as p1", "\"pumps.policy\" as p1", "cannot read pumps.policy"),
        ] {
            let text = build(&MAIN.replacen(right, wrong, 1), PART).err();
            assert!(text.as_ref().is_some_and(|text| text.contains(message)), "{wrong}: {text:?}");
        }
        for (right, wrong, message) in [
            ("$limit and", "$limits and", "pump.policy:4"),
            ("part pump(", "part (", "expected the part's name"),
            ("part pump", "app pump", "this file is no part"),
            ("counter sets", "include \"x.policy\"\ncounter sets", "a part stands for itself"),
        ] {
            let text = build(MAIN, &PART.replacen(right, wrong, 1)).err();
            assert!(text.as_ref().is_some_and(|text| text.contains(message)), "{wrong}: {text:?}");
        }
        assert!(build(&format!("{MAIN}counter c in 0..$x\n"), PART).is_err_and(|text| text.contains("`$x`")));
    }
}
