//! Statements as trees, so that a failing one can be made smaller.

use super::values::{Ty, Value};

/// A part of a statement.
#[derive(Debug, Clone)]
pub struct Tree {
    kind: Kind,
    parts: Vec<Part>,
}

/// The place of a part in its statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An expression, which others of its type can replace.
    Expr(Ty),
    /// A part that can be left out.
    Optional,
    /// Any other part.
    Fixed,
}

#[derive(Debug, Clone)]
enum Part {
    Sql(String),
    Value(Slot),
    Tree(Tree),
}

/// A value in a statement.
#[derive(Debug, Clone)]
struct Slot {
    value: Value,
    style: u8,
    /// True for a value that is never a parameter.
    inline: bool,
}

/// Forms of the values in a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    Literals,
    /// `$1` with types that are declared beside the statement.
    Declared,
    /// `$1` with types that the server finds out.
    Inferred,
    /// `$1::type`.
    Cast,
    /// `$1` for every value, also for those that otherwise stand in the statement.
    All,
}

impl Tree {
    /// Fills `{}` in a template.
    pub fn new(kind: Kind, template: &str, arguments: impl IntoIterator<Item = Tree>) -> Self {
        let mut pieces = template.split("{}");
        let mut parts = vec![Part::Sql(pieces.next().unwrap_or_default().into())];
        for argument in arguments {
            parts.push(Part::Tree(argument));
            parts.push(Part::Sql(pieces.next().expect("as many {} as arguments").into()));
        }
        assert!(pieces.next().is_none(), "{template} has more places than arguments");
        Self { kind, parts }
    }

    /// Returns SQL that is not an expression.
    pub fn fixed(template: &str, arguments: impl IntoIterator<Item = Tree>) -> Self {
        Self::new(Kind::Fixed, template, arguments)
    }

    /// Returns SQL without parts.
    pub fn sql(sql: impl Into<String>) -> Self {
        Self { kind: Kind::Fixed, parts: vec![Part::Sql(sql.into())] }
    }

    /// Returns an empty tree.
    pub fn empty() -> Self {
        Self { kind: Kind::Fixed, parts: Vec::new() }
    }

    /// Returns a literal or a parameter.
    pub fn value(value: Value, style: u8, inline: bool) -> Self {
        Self { kind: Kind::Expr(value.ty), parts: vec![Part::Value(Slot { value, style, inline })] }
    }

    /// Joins trees with a separator.
    pub fn join(trees: impl IntoIterator<Item = Tree>, separator: &str) -> Self {
        let mut parts = Vec::new();
        for tree in trees {
            if !parts.is_empty() {
                parts.push(Part::Sql(separator.into()));
            }
            parts.push(Part::Tree(tree));
        }
        Self { kind: Kind::Fixed, parts }
    }

    /// Returns the statement and the values of its parameters.
    pub fn render(&self, spelling: Spelling) -> (String, Vec<Value>) {
        let (mut sql, mut values) = (String::new(), Vec::new());
        self.write(spelling, &mut sql, &mut values);
        (sql, values)
    }

    fn write(&self, spelling: Spelling, sql: &mut String, values: &mut Vec<Value>) {
        for part in &self.parts {
            match part {
                Part::Sql(text) => sql.push_str(text),
                Part::Tree(tree) => tree.write(spelling, sql, values),
                Part::Value(slot) if spelling == Spelling::Literals || slot.inline && spelling != Spelling::All => {
                    sql.push_str(&slot.value.literal(slot.style));
                }
                Part::Value(slot) => {
                    values.push(slot.value.clone());
                    sql.push_str(&format!("${}", values.len()));
                    if spelling == Spelling::Cast {
                        sql.push_str(&format!("::{}", slot.value.ty.name()));
                    }
                }
            }
        }
    }

    /// Returns trees each without one of the parts that can be left out.
    pub fn without_options(&self) -> Vec<Tree> {
        let mut found = Vec::new();
        self.visit(&mut Vec::new(), &mut |path, tree| {
            if tree.kind == Kind::Optional && !tree.parts.is_empty() {
                let mut whole = self.clone();
                *whole.at(path) = Tree { kind: Kind::Optional, parts: Vec::new() };
                found.push(whole);
            }
        });
        found
    }

    /// Returns trees with something less each, the smallest first.
    pub fn smaller(&self) -> Vec<Tree> {
        let mut found = Vec::new();
        self.visit(&mut Vec::new(), &mut |path, tree| {
            let mut replace = |with: Tree| {
                let mut whole = self.clone();
                *whole.at(path) = with;
                found.push(whole);
            };
            match tree.kind {
                Kind::Optional if !tree.parts.is_empty() => {
                    replace(Tree { kind: Kind::Optional, parts: Vec::new() });
                }
                Kind::Expr(ty) if tree.size() > 1 => {
                    tree.visit(&mut Vec::new(), &mut |inner, below| {
                        if !inner.is_empty() && below.kind == tree.kind {
                            replace(below.clone());
                        }
                    });
                    replace(Tree::sql(format!("NULL::{}", ty.name())));
                }
                _ => {}
            }
        });
        found.sort_by_key(Tree::size);
        found
    }

    fn size(&self) -> usize {
        1 + self.parts.iter().map(|part| if let Part::Tree(tree) = part { tree.size() } else { 0 }).sum::<usize>()
    }

    fn visit(&self, path: &mut Vec<usize>, each: &mut impl FnMut(&[usize], &Tree)) {
        each(path, self);
        for (index, part) in self.parts.iter().enumerate() {
            if let Part::Tree(tree) = part {
                path.push(index);
                tree.visit(path, each);
                path.pop();
            }
        }
    }

    fn at(&mut self, path: &[usize]) -> &mut Tree {
        path.iter().fold(self, |tree, index| match &mut tree.parts[*index] {
            Part::Tree(below) => below,
            _ => unreachable!("paths lead through trees"),
        })
    }
}
