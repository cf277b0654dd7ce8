//! Tests of ON CONFLICT, of UPDATE with FROM and DELETE with USING, of rows, arrays and subqueries as values, of ALTER SEQUENCE and
//! TRUNCATE. The answers are those of PostgreSQL 15: the number of rows and the rows in order, or an SQLSTATE.

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::privileges::Lab;
use crate::{Running, fails, lines, sqlstate};

const CONFLICTS: &[(&str, &str)] = &[
    ("create table t (a int primary key, b text not null check (b <> 'bad'), c int default 7 unique)", "0"),
    ("insert into t values (1, 'x', 1), (2, 'y', 2)", "2"),
    ("insert into t values (1, null, 1) on conflict do nothing", "23502"),
    ("insert into t values (1, 'bad', 1) on conflict do nothing", "23514"),
    ("insert into t values (1, 'z', 2) on conflict (a) do nothing", "0"),
    ("insert into t values (3, 'z', 2) on conflict (a) do nothing", "23505"),
    ("insert into t values (3, 'z', 2) on conflict do nothing", "0"),
    ("insert into t values (3, 'z', 2) on conflict (b) do nothing", "42P10"),
    ("insert into t values (3, 'z', 2) on conflict (zz) do nothing", "42703"),
    ("insert into t values (3, 'z', 2) on conflict on constraint t_b_check do nothing", "42809"),
    ("insert into t values (3, 'z', 2) on conflict on constraint nope do nothing", "42704"),
    ("insert into t values (3, 'z', 2) on conflict on constraint t_c_key do nothing", "0"),
    ("insert into t values (3, 'z', 2) on conflict do update set b = 'x'", "42601"),
    ("insert into t values (1, 'z', 9), (1, 'q', 10) on conflict (a) do update set b = excluded.b", "21000"),
    (
        "insert into t values (1, 'z', 9), (5, 'q', 10), (5, 'r', 11) on conflict (a) do update set b = excluded.b",
        "21000",
    ),
    ("insert into t values (5, 'q', 10), (5, 'r', 11) on conflict (a) do nothing returning *", "1 [5|q|10]"),
    (
        "insert into t values (1, 'z', 9), (6, 'q', 12) on conflict (a) do update set b = excluded.b || b returning *",
        "42702",
    ),
    (
        "insert into t values (1, 'z', 9), (6, 'q', 12) on conflict (a) do update set b = excluded.b || t.b returning *",
        "2 [1|zx|1] [6|q|12]",
    ),
    (
        "insert into t as k values (1, 'z', 9), (7, 'q', 13) on conflict (a) do update set b = excluded.b || k.b where k.a > 5 returning *, k.a + 1",
        "1 [7|q|13|8]",
    ),
    (
        "insert into t as k values (1, 'z', 9) on conflict (a) do update set (b, c) = (excluded.b, default) returning *",
        "1 [1|z|7]",
    ),
    ("insert into t as k values (1, 'z', 9) on conflict (a) do update set b = null", "23502"),
    ("insert into t as k values (1, 'z', 9) on conflict (a) do update set b = 'bad'", "23514"),
    ("insert into t as k values (1, 'z', 9) on conflict (a) do update set c = 2", "23505"),
    ("insert into t as k values (1, 'z', 9) on conflict (a) do update set a = 100 returning a", "1 [100]"),
    (
        "insert into t values (1, 'z', 50), (100, 'z', 51) on conflict (a) do update set a = 101 returning a",
        "2 [1] [101]",
    ),
    (
        "insert into t values (101, 'z', 60), (101, 'q', 61) on conflict (a) do update set a = t.a + 1 returning a, b",
        "2 [101|q] [102|z]",
    ),
    ("insert into t values (1, 'z', 9) on conflict (a) do update set k = 9", "42703"),
    ("insert into t values (1, 'z', 9) on conflict (a) do update set b = 'x', b = 'y'", "42601"),
    ("insert into t values (1, 'z', 9) on conflict (a) do update set a = b", "42702"),
    ("insert into t values (1, 'z', 9) on conflict (a) do update set a = max(t.a)", "42803"),
    (
        "insert into t select a, 's', c + 100 from t on conflict (a) do update set b = excluded.b returning *",
        "7 [101|s|61] [102|s|7] [1|s|50] [2|s|2] [5|s|10] [6|s|12] [7|s|13]",
    ),
    ("insert into t (a, b) values (9, 'n') on conflict do nothing returning c", "0"),
    ("insert into t (a, b) values (9, 'n') on conflict (c) do update set b = t.b || excluded.b, a = default", "23502"),
    ("insert into t (a, b) select g, 'g' from generate_series(1, 3) g on conflict do nothing", "0"),
    ("insert into t select * from t where false on conflict (a) do update set b = 'x'", "0"),
    ("select * from t", "7 [101|s|61] [102|s|7] [1|s|50] [2|s|2] [5|s|10] [6|s|12] [7|s|13]"),
    ("create table n (a int, b int, unique (a, b))", "0"),
    ("insert into n values (1, null), (1, null), (null, 1), (2, 2), (2, 2) on conflict do nothing", "4"),
    ("insert into n values (1, null), (2, 2) on conflict (b, a) do update set a = 3 returning *", "2 [1|NULL] [3|2]"),
    ("insert into n values (4, 4) on conflict (a) do nothing", "42P10"),
    ("select * from n", "5 [1|NULL] [1|NULL] [1|NULL] [3|2] [NULL|1]"),
    ("create unique index n_b on n (b)", "0"),
    ("insert into n values (9, 2) on conflict (b) do update set a = excluded.a returning *", "1 [9|2]"),
    ("insert into n values (9, 2) on conflict on constraint n_b do nothing", "42704"),
    ("create table s (id serial primary key, x text unique, i int generated always as identity)", "0"),
    ("insert into s (x) values ('a'), ('b'), ('a') on conflict (x) do nothing returning id, x, i", "2 [1|a|1] [2|b|2]"),
    (
        "insert into s (x) values ('b'), ('c') on conflict (x) do update set x = excluded.x || '!' returning *",
        "2 [2|b!|2] [5|c|5]",
    ),
    ("insert into s (x) values ('c') on conflict (x) do update set i = 5", "428C9"),
    ("insert into s (x) values ('c') on conflict (x) do update set i = default returning *", "1 [5|c|7]"),
    ("create table p (k int primary key, v int)", "0"),
    ("create table f (k int references p on update cascade on delete cascade, w int)", "0"),
    ("insert into p values (1, 1), (2, 2)", "2"),
    ("insert into f values (1, 1), (2, 2)", "2"),
    ("insert into p values (1, 5) on conflict (k) do update set k = 10, v = excluded.v", "1"),
    ("select * from f", "2 [10|1] [2|2]"),
    ("create table g (k int primary key references p, v int)", "0"),
    ("insert into g values (10, 1), (3, 1) on conflict do nothing", "23503"),
    ("insert into g values (10, 1) on conflict (k) do update set k = 99", "1"),
    ("insert into g values (10, 1), (2, 2) on conflict (k) do update set v = 9 returning *", "2 [10|9] [2|2]"),
    ("insert into p values (2, 5) on conflict (k) do update set k = 20", "23503"),
    ("select * from p", "2 [10|5] [2|2]"),
    ("begin", "0"),
    ("insert into p values (2, 7), (5, 5) on conflict (k) do update set v = excluded.v", "2"),
    ("savepoint a", "0"),
    ("insert into p values (2, 8), (6, 6) on conflict (k) do update set v = excluded.v", "2"),
    ("rollback to a", "0"),
    ("commit", "0"),
    ("select * from p", "3 [10|5] [2|7] [5|5]"),
];

const JOINS: &[(&str, &str)] = &[
    ("create table t (a int primary key, b text, c int default 7 check (c < 100))", "0"),
    ("create table u (a int, b text, n int)", "0"),
    ("insert into t values (1, 'x', 1), (2, 'y', 2), (3, 'z', 3)", "3"),
    ("insert into u values (1, 'n', 10), (3, null, 30), (4, 'q', null)", "3"),
    ("update t set b = u.b from u where u.a = t.a", "2"),
    ("update t set b = u.b, c = c + 1 from u where u.a = t.a and u.n > 10 returning *", "1 [3|NULL|4|3|NULL|30]"),
    ("update t as x set b = v.b || x.a from u v where v.a = x.a returning x.a, x.b, v.n", "2 [1|n1|10] [3|NULL|30]"),
    ("update t set b = 'o' from t where t.a = 1", "42712"),
    ("update t set b = y.b from t y where y.a = t.a + 1 returning t.a, t.b, y.a", "2 [1|y|2] [2|NULL|3]"),
    ("update t set c = u.n from u where u.a = t.a and u.a = 1", "1"),
    ("update t set c = 500 from u where u.a = t.a", "23514"),
    ("update t set a = 1 from u where u.a = t.a", "23505"),
    ("update t set c = u.n from u where u.a = 9", "0"),
    ("update t set c = u.b from u where u.a = t.a", "42804"),
    ("update t set nope = 1 from u", "42703"),
    ("update t set b = b from u where u.a = t.a", "42702"),
    ("update t set c = default from u where u.a = t.a and u.a = 3 returning t.*", "1 [3|NULL|7]"),
    ("update t set c = n from (select a, sum(n) as n from u group by a) s where s.a = t.a returning c", "2 [10] [30]"),
    ("update t set c = x from (values (1, 50), (2, 60)) as v(k, x) where k = a returning t.a, c", "2 [1|50] [2|60]"),
    (
        "update t set c = u.n from u left join t o on o.a = u.a where u.a = t.a and o.a is not null returning t.a, t.c, o.c",
        "2 [1|10|50] [3|30|30]",
    ),
    ("update t set b = g from generate_series(1, 1) g where a = g returning b", "1 [1]"),
    ("update t set c = 1 from u", "3"),
    ("update t set b = u.b from u, (select 3 as z) w where u.a = t.a and z = t.a returning t.a, u.a, z", "1 [3|3|3]"),
    ("update t set c = max(u.n) from u", "42803"),
    ("update t set c = row_number() over () from u", "42P20"),
    ("update t set c = (select max(n) from u) where a = 1 returning c", "1 [30]"),
    ("update t set (b, c) = ('m', 8) where a = 2 returning *", "1 [2|m|8]"),
    ("update t set (b, c) = (1, 2, 3)", "42601"),
    ("update t set c = 1 where a in (select a from u where a = 1) returning a, c", "1 [1|1]"),
    ("update t set c = 2 where a not in (select a from u) returning a, c", "1 [2|2]"),
    ("update t set c = 3 where exists (select 1 from u where u.a = t.a and u.n = 30) returning a, c", "1 [3|3]"),
    ("select * from t", "3 [1|1|1] [2|m|2] [3|NULL|3]"),
    ("delete from t using u where u.a = t.a and u.n = 10 returning *", "1 [1|1|1|1|n|10]"),
    ("delete from t as x using u v where v.a = x.a returning x.a, v.n", "1 [3|30]"),
    ("delete from t using u where u.a = 99", "0"),
    ("delete from t x where x.a = 2 returning x.*", "1 [2|m|2]"),
    ("insert into t values (1, 'x', 1), (2, 'y', 2), (3, 'z', 3), (4, 'w', 4)", "4"),
    ("delete from t where a in (select a from u where n is not null)", "2"),
    ("delete from t where a not in (select n from u)", "0"),
    ("delete from t where not exists (select 1 from u where u.a = t.a) returning *", "1 [2|y|2]"),
    ("delete from t using t x where x.a = t.a returning t.a", "1 [4]"),
    ("create table p (k int primary key)", "0"),
    ("create table f (k int references p on delete cascade on update set null, w int)", "0"),
    ("insert into p values (1), (2), (3)", "3"),
    ("insert into f values (1, 1), (2, 2), (3, 3)", "3"),
    ("update p set k = k + 10 from u where u.a = k and u.a = 3", "1"),
    ("delete from p using u where u.a = p.k", "1"),
    ("select * from f", "2 [2|2] [NULL|3]"),
    ("create table r (k int references p)", "0"),
    ("insert into r values (2)", "1"),
    ("delete from p using r where r.k = p.k", "23503"),
    ("update p set k = 50 from r where r.k = p.k", "23503"),
    ("begin", "0"),
    ("update p set k = 60 from u where u.a = 1 and p.k = 13", "1"),
    ("delete from p using u where p.k = 60", "1"),
    ("rollback", "0"),
    ("select * from p", "2 [13] [2]"),
];

const ROWS: &[(&str, &str)] = &[
    ("create table t (a int, b int)", "0"),
    ("create table u (x int, y int)", "0"),
    ("insert into t values (1, 1), (2, 2), (3, null), (null, 1), (null, null)", "5"),
    ("insert into u values (1, 1), (1, 3), (3, 3)", "3"),
    (
        "select a, b, (a, b) in (select x, y from u) from t",
        "5 [1|1|t] [2|2|f] [3|NULL|NULL] [NULL|1|NULL] [NULL|NULL|NULL]",
    ),
    (
        "select a, b, (a, b) not in (select x, y from u) from t",
        "5 [1|1|f] [2|2|t] [3|NULL|NULL] [NULL|1|NULL] [NULL|NULL|NULL]",
    ),
    ("select * from t where (a, b) in (select x, y from u)", "1 [1|1]"),
    ("select * from t where (a, b) not in (select x, y from u)", "1 [2|2]"),
    ("select * from t where not (a, b) in (select x, y from u)", "1 [2|2]"),
    ("select * from t where a = 2 or (a, b) in (select x, y from u)", "2 [1|1] [2|2]"),
    ("select * from t where ((a, b) in (select x, y from u)) is null", "3 [3|NULL] [NULL|1] [NULL|NULL]"),
    ("insert into u values (null, 2), (3, null)", "2"),
    (
        "select a, b, (a, b) in (select x, y from u) from t",
        "5 [1|1|t] [2|2|NULL] [3|NULL|NULL] [NULL|1|NULL] [NULL|NULL|NULL]",
    ),
    (
        "select a, b, (a, b) not in (select x, y from u) from t",
        "5 [1|1|f] [2|2|NULL] [3|NULL|NULL] [NULL|1|NULL] [NULL|NULL|NULL]",
    ),
    ("select * from t where (a, b) in (select x, y from u)", "1 [1|1]"),
    ("select * from t where (a, b) not in (select x, y from u)", "0"),
    ("select * from t where (a, b) not in (select x, y from u where x = 1)", "2 [2|2] [3|NULL]"),
    ("select * from t where (a, b) in (select * from u) and b = 1", "1 [1|1]"),
    (
        "select a, b, (a, b) in (select x, y from u where false), (a, b) not in (select x, y from u where false) from t",
        "5 [1|1|f|t] [2|2|f|t] [3|NULL|f|t] [NULL|1|f|t] [NULL|NULL|f|t]",
    ),
    ("select a, b from t group by a, b having (a, b) in (select x, y from u)", "1 [1|1]"),
    ("select (1, 2) in (select 1, 2), (1, null) in (select 1, 2), (2, null) in (select 1, 2)", "1 [t|NULL|f]"),
    (
        "select (a, b) in ((1, 1), (2, 3)), (a, b) not in ((1, 1), (null, 3)) from t",
        "5 [NULL|NULL] [NULL|NULL] [f|NULL] [f|t] [t|f]",
    ),
    (
        "select (a, b) = (1, 1), (a, b) <> (1, 1), (a, b) = (a, b) from t",
        "5 [NULL|NULL|NULL] [NULL|NULL|NULL] [f|t|NULL] [f|t|t] [t|f|t]",
    ),
    (
        "select (a, b) < (2, 2), (a, b) <= (2, 2), (a, b) > (2, 2), (a, b) >= (2, 2) from t",
        "5 [NULL|NULL|NULL|NULL] [NULL|NULL|NULL|NULL] [f|f|t|t] [f|t|f|t] [t|t|f|f]",
    ),
    ("select (a, b) is null, (a, b) is not null from t", "5 [f|f] [f|f] [f|t] [f|t] [t|f]"),
    (
        "select (a, b) is distinct from (1, null), (a, b) is not distinct from (null, null) from t",
        "5 [t|f] [t|f] [t|f] [t|f] [t|t]",
    ),
    (
        "select (a, b) between (1, 1) and (2, 2), (a, b) not between (1, 1) and (2, 2) from t",
        "5 [NULL|NULL] [NULL|NULL] [f|t] [t|f] [t|f]",
    ),
    (
        "select row(1, 2) = row(1, 2), row(1, null) = row(1, 2), (1, null) < (2, 0), row(1, 2, 3) < row(1, 3, null)",
        "1 [t|NULL|t|t]",
    ),
    ("select t.a, u.y from t join u on (t.a, t.b) = (u.x, u.y)", "1 [1|1]"),
    ("select ('a', 1) = ('b', 2), (1, '2') in ((1, 2.5), (1, 2))", "1 [f|t]"),
    ("select (a, b) = (1, 2, 3) from t", "42601"),
    ("select (a, b) in ((1, 1, 1)) from t", "42601"),
    ("select (a, b) in (select x from u) from t", "42601"),
    ("select (a, b) in (1, 2) from t", "42883"),
    ("select ('a', 1) < ('b', 'x')", "22P02"),
    ("delete from t where (a, b) in (select x, y from u) returning *", "1 [1|1]"),
    ("update t set b = 9 where (a, b) in ((2, 2), (3, 3)) returning *", "1 [2|9]"),
    ("select case when (a, b) = (2, 9) then 'y' else 'n' end from t", "4 [n] [n] [n] [y]"),
];

const ARRAYS: &[(&str, &str)] = &[
    ("create table t (a int, b text, d date)", "0"),
    (
        "insert into t values (1, 'x', '2000-01-01'), (2, 'y z', '2000-01-02'), (3, null, null), (null, 'null', '2000-01-03')",
        "4",
    ),
    ("select * from t where a = any('{1,3}')", "2 [1|x|2000-01-01] [3|NULL|NULL]"),
    ("select * from t where a <> all('{1,3}')", "1 [2|y z|2000-01-02]"),
    (
        "select a, a = any('{1,null}'), a <> all('{1,null}'), a = any('{}'), a <> all('{}') from t",
        "4 [1|t|f|f|t] [2|NULL|NULL|f|t] [3|NULL|NULL|f|t] [NULL|NULL|NULL|f|t]",
    ),
    (
        "select a, a < any('{2,3}'), a >= all('{1,2}'), a = some('{2}') from t",
        "4 [1|t|f|f] [2|t|t|t] [3|f|t|f] [NULL|NULL|NULL|NULL]",
    ),
    ("select b from t where b = any('{x,\"y z\"}')", "2 [x] [y z]"),
    (
        "select b, b = any('{null}'), b = any('{\"null\"}') from t",
        "4 [NULL|NULL|NULL] [null|NULL|t] [x|NULL|f] [y z|NULL|f]",
    ),
    ("select d from t where d = any('{2000-01-01,2000-01-03}')", "2 [2000-01-01] [2000-01-03]"),
    (
        "select a::bigint = any('{1}'), a::numeric = any('{1.0}'), a::float8 = any('{1e0}') from t",
        "4 [NULL|NULL|NULL] [f|f|f] [f|f|f] [t|t|t]",
    ),
    ("select * from t where a = any('{1,x}')", "22P02"),
    ("select * from t where a = any('1,2')", "22P02"),
    ("select * from t where not a = any('{1}')", "2 [2|y z|2000-01-02] [3|NULL|NULL]"),
    (
        "select a between symmetric 3 and 1, a not between symmetric 3 and 2, a between asymmetric 3 and 1 from t",
        "4 [NULL|NULL|NULL] [t|f|f] [t|f|f] [t|t|f]",
    ),
    ("select a from t where a between symmetric a + 1 and 2 and b is not null", "1 [2]"),
    ("select a between symmetric null and 2 from t", "4 [NULL] [NULL] [NULL] [NULL]"),
    ("select 5 between symmetric 6 and 4, 'b' between symmetric 'c' and 'a'", "1 [t|t]"),
    ("select a between not 1 and 2 from t", "42601"),
];

const ROWLESS: &[(&str, &str)] = &[
    ("create table t (a int, b int)", "0"),
    ("create table u (a int)", "0"),
    ("insert into t values (1, 1), (2, 3), (null, 4)", "3"),
    ("insert into u values (1)", "1"),
    ("select a, (select a + 1), (select b where a > 1) from t", "3 [1|2|NULL] [2|3|3] [NULL|NULL|NULL]"),
    (
        "select a, exists (select where a > 1), exists (select 1 where a > 1), not exists (select where a > 1) from t",
        "3 [1|f|f|t] [2|t|t|f] [NULL|f|f|t]",
    ),
    ("select * from t where exists (select where a > 1)", "1 [2|3]"),
    (
        "select a in (select b), a not in (select b), a in (select b where b > 1) from t",
        "3 [NULL|NULL|NULL] [f|t|f] [t|f|f]",
    ),
    ("select * from t where a in (select b)", "1 [1|1]"),
    ("select * from t where a not in (select b)", "1 [2|3]"),
    ("select a, (select (select a + b)) from t", "3 [1|2] [2|5] [NULL|NULL]"),
    ("select (select a + 1) as z from t order by (select a)", "3 [2] [3] [NULL]"),
    ("select a, (select sum(b) from t x where x.a = (select t.a)) from t", "3 [1|1] [2|3] [NULL|NULL]"),
    ("update t set b = (select a * 2) where a = 2 returning b", "1 [4]"),
    ("select (select a) from u", "1 [1]"),
];

const SEQUENCES: &[(&str, &str)] = &[
    ("create sequence s", "0"),
    ("select nextval('s')", "1 [1]"),
    ("alter sequence s increment 5", "0"),
    ("select nextval('s'), currval('s')", "1 [6|6]"),
    ("alter sequence s restart", "0"),
    ("select currval('s'), lastval()", "1 [6|6]"),
    ("select nextval('s')", "1 [1]"),
    ("alter sequence s restart with 100", "0"),
    ("select nextval('s')", "1 [100]"),
    ("alter sequence s maxvalue 50", "22023"),
    ("alter sequence s minvalue 200", "22023"),
    ("alter sequence s start 300 restart", "0"),
    ("select nextval('s')", "1 [300]"),
    ("alter sequence s no maxvalue no minvalue cycle", "0"),
    ("alter sequence s as smallint", "0"),
    (
        "select data_type, start_value, min_value, max_value, increment_by, cycle, last_value from pg_sequences where sequencename = 's'",
        "1 [smallint|300|1|32767|5|t|300]",
    ),
    ("alter sequence s as integer", "0"),
    ("select data_type, max_value, min_value from pg_sequences where sequencename = 's'", "1 [integer|2147483647|1]"),
    ("alter sequence if exists nope restart", "0"),
    ("alter sequence nope restart", "42P01"),
    ("alter sequence s increment 0", "22023"),
    ("alter sequence s increment 2 increment 3", "42601"),
    ("alter sequence s as text", "22023"),
    ("alter sequence s", "42601"),
    ("alter sequence s bogus", "42601"),
    ("create table t (id serial, i int generated always as identity, x text)", "0"),
    ("alter sequence t_id_seq owned by none", "0"),
    ("drop table t", "0"),
    ("select nextval('t_id_seq')", "1 [1]"),
    ("create table t (id int, i int generated always as identity, x text)", "0"),
    ("alter sequence t_id_seq owned by t.id", "0"),
    ("alter sequence t_i_seq owned by none", "0A000"),
    ("alter sequence t_i_seq restart 50", "0"),
    ("insert into t (x) values ('a') returning i", "1 [50]"),
    ("alter sequence t owned by none", "42809"),
    ("alter sequence t_id_seq owned by t.nope", "42703"),
    ("alter sequence t_id_seq owned by s.nope", "42809"),
    ("begin", "0"),
    ("select nextval('s')", "1 [305]"),
    ("alter sequence s restart with 7", "0"),
    ("select nextval('s')", "1 [7]"),
    ("rollback", "0"),
    ("select nextval('s')", "1 [310]"),
    ("drop table t", "0"),
    ("select nextval('t_id_seq')", "42P01"),
];

const TRUNCATED: &[(&str, &str)] = &[
    ("create table v (id serial primary key, x text)", "0"),
    ("insert into v (x) values ('a'), ('b')", "2"),
    ("create table w (id serial, v int references v)", "0"),
    ("insert into w (v) values (1)", "1"),
    ("create table z (w int references v on delete set null)", "0"),
    ("insert into z values (2)", "1"),
    ("truncate v", "0A000"),
    ("truncate v, w", "0A000"),
    ("truncate v, w, z", "0"),
    ("select count(*) from z", "1 [0]"),
    ("insert into v (x) values ('c') returning id", "1 [3]"),
    ("truncate v restart identity cascade", "0"),
    ("insert into v (x) values ('c') returning id", "1 [1]"),
    ("insert into w (v) values (1) returning id", "1 [1]"),
    ("begin", "0"),
    ("truncate v restart identity cascade", "0"),
    ("insert into v (x) values ('d') returning id", "1 [1]"),
    ("rollback", "0"),
    ("insert into v (x) values ('e') returning id", "1 [2]"),
    ("select count(*) from w", "1 [1]"),
    ("truncate w continue identity", "0"),
    ("insert into w (v) values (1) returning id", "1 [2]"),
    ("truncate w restart identity", "0"),
    ("insert into w (v) values (1) returning id", "1 [1]"),
    ("create table a (k int primary key)", "0"),
    ("create table b (k int primary key references a)", "0"),
    ("alter table a add foreign key (k) references b", "0"),
    ("truncate a", "0A000"),
    ("truncate a cascade", "0"),
    ("select count(*) from b", "1 [0]"),
];

const QUANTIFIED: &[(&str, &str)] = &[
    ("create table t (a int, b int)", "0"),
    ("create table u (x int, y int)", "0"),
    ("insert into t values (1, 1), (2, 2), (3, null)", "3"),
    ("insert into u values (1, 1), (3, 3)", "2"),
    (
        "select a, (a, b) = any (select x, y from u), (a, b) <> all (select x, y from u) from t",
        "3 [1|t|f] [2|f|t] [3|NULL|NULL]",
    ),
    ("select a from t where (a, b) = any (select x, y from u)", "1 [1]"),
    ("select a from t where (a, b) <> all (select x, y from u)", "1 [2]"),
    (
        "select a, (a, b) = (select max(x), max(y) from u), (a, b) < (select max(x), max(y) from u) from t",
        "3 [1|f|t] [2|f|t] [3|NULL|NULL]",
    ),
    ("select a, (a, b) = (select x, y from u where false) from t", "3 [1|NULL] [2|NULL] [3|NULL]"),
    ("select a from t where (a, b) = (select x, y from u)", "21000"),
    ("select (select 1, 2) = (1, 2), (select 1, 3) > (1, 2)", "42601"),
];

/// Returns the number of rows of a statement and the rows in order, or its SQLSTATE.
async fn answer(client: &Client, sql: &str) -> String {
    let messages = match client.simple_query(sql).await {
        Ok(messages) => messages,
        Err(error) => return sqlstate(&error).to_owned(),
    };
    let (mut count, mut rows) = (0, Vec::new());
    for message in &messages {
        match message {
            SimpleQueryMessage::Row(row) => {
                let values: Vec<_> = (0..row.len()).map(|at| row.get(at).unwrap_or("NULL")).collect();
                rows.push(values.join("|"));
            }
            SimpleQueryMessage::CommandComplete(rows) => count = *rows,
            _ => {}
        }
    }
    rows.sort();
    rows.iter().fold(count.to_string(), |answer, row| format!("{answer} [{row}]"))
}

/// Runs statements of one session of a server of their own, and compares their answers.
async fn compare(steps: &[(&str, &str)]) {
    let server = Running::start().await;
    let client = server.connect().await;
    for (sql, expected) in steps {
        assert_eq!(answer(&client, sql).await, *expected, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts_are_resolved_as_in_postgres() {
    compare(CONFLICTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_changed_by_those_of_other_tables() {
    compare(JOINS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_compared_by_their_columns() {
    compare(ROWS).await;
    compare(QUANTIFIED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_arrays_beside_any_and_all() {
    compare(ARRAYS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subqueries_need_no_tables() {
    compare(ROWLESS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_are_altered() {
    compare(SEQUENCES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_emptied_with_those_that_reference_them() {
    compare(TRUNCATED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_take_parameters() {
    let server = Running::start().await;
    let client = server.connect().await;
    client.batch_execute("create table t (a int primary key, b text, n bigint)").await.unwrap();
    client.batch_execute("create table u (a int, b text)").await.unwrap();
    client.batch_execute("insert into u values (1, 'u')").await.unwrap();
    let insert = "insert into t values ($1, $2, 1) on conflict (a) do update set b = t.b || excluded.b || $3, n = t.n + 1 \
                  where t.n < $4 returning b, n";
    let insert = client.prepare(insert).await.unwrap();
    for (third, expected) in [("!", Some(("x", 1))), ("!", Some(("xx!", 2))), ("?", Some(("xx!x?", 3))), ("?", None)] {
        let rows = client.query(&insert, &[&1, &"x", &third, &3_i64]).await.unwrap();
        let found = rows.first().map(|row| (row.get::<_, String>(0), row.get::<_, i64>(1)));
        assert_eq!(found.as_ref().map(|(b, n)| (b.as_str(), *n)), expected);
    }
    let update = "update t set b = u.b || $1 from u where u.a = t.a and t.a = $2";
    assert_eq!(client.execute(update, &[&"y", &1]).await.unwrap(), 1);
    assert_eq!(client.execute(update, &[&"y", &2]).await.unwrap(), 0);
    assert_eq!(lines(&client, "select * from t").await, ["1|uy|3"]);
    let delete = client.query("delete from t using u where u.a = t.a and u.b = $1 returning t.b, u.b", &[&"u"]).await;
    let deleted = delete.unwrap();
    assert_eq!((deleted[0].get::<_, &str>(0), deleted[0].get::<_, &str>(1)), ("uy", "u"));
    client
        .batch_execute("prepare p(int, text) as insert into t values ($1, $2) on conflict (a) do update set b = $2")
        .await
        .unwrap();
    for text in ["'p'", "'q'"] {
        assert_eq!(answer(&client, &format!("execute p(7, {text})")).await, "1");
    }
    assert_eq!(lines(&client, "select a, b from t").await, ["7|q"]);
    let within = "select $1::int = any('{1,2}'), ($1::int, 2) in ((1, 2)), $1::int between symmetric 3 and 0";
    let row = client.query_one(within, &[&1]).await.unwrap();
    assert!((0..3).all(|at| row.get::<_, bool>(at)));
    assert_eq!(answer(&client, "update toy.neurons set neuron = 1 from u").await, "0A000");
    assert_eq!(
        answer(&client, "insert into toy.graphs select * from toy.graphs on conflict do nothing").await,
        "0A000"
    );
    for query in [
        "explain insert into t values (1) on conflict do nothing",
        "explain update t set b = u.b from u",
        "explain delete from t using u",
    ] {
        assert_eq!(fails(&client, query).await, "0A000", "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_wait_for_each_others_conflicts() {
    let server = Running::start().await;
    let (one, other) = (server.connect().await, server.connect().await);
    one.batch_execute("create table t (a int primary key, n int)").await.unwrap();
    one.batch_execute("begin; insert into t values (1, 1)").await.unwrap();
    let upsert = "insert into t values (1, 1) on conflict (a) do update set n = t.n + 1";
    let waiting = tokio::spawn(async move { other.batch_execute(upsert).await });
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    one.batch_execute("commit").await.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(lines(&one, "select * from t").await, ["1|2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_are_those_of_what_is_read_and_changed() {
    let lab = Lab::start().await;
    lab.second_model(&lab.ada, "smol").await;
    lab.ada.batch_execute("revoke usage on schema smol from public").await.unwrap();
    lab.ada.batch_execute("create table hers (a int primary key)").await.unwrap();
    lab.ann.batch_execute("create table mine (a int primary key)").await.unwrap();
    lab.ann.batch_execute("insert into mine values (1)").await.unwrap();
    for sql in [
        "update mine set a = n.neuron from smol.neurons n",
        "update mine set a = a where (a, a) in (select layer, neuron from smol.neurons)",
        "delete from mine using smol.neurons n where n.neuron = mine.a",
        "insert into mine values (1) on conflict (a) do update set a = (select max(neuron) from smol.neurons)",
        "insert into mine values (1) on conflict (a) do update set a = 5 where exists (select 1 from smol.neurons)",
        "insert into hers values (1) on conflict do nothing",
        "insert into hers values (1) on conflict (a) do update set a = 2",
        "update hers set a = mine.a from mine",
        "delete from hers using mine",
    ] {
        assert_eq!(fails(&lab.ann, sql).await, "42501", "{sql}");
    }
    for sql in ["insert into mine values (1) on conflict do nothing", "delete from mine using hers"] {
        assert_eq!(fails(&lab.bob, sql).await, "42501", "{sql}");
    }
    lab.ada.batch_execute("create sequence her_sequence").await.unwrap();
    assert_eq!(fails(&lab.ann, "alter sequence her_sequence restart").await, "42501");
    lab.ann.batch_execute("create sequence my_sequence; alter sequence my_sequence increment 2").await.unwrap();
    assert_eq!(lines(&lab.ann, "select * from mine").await, ["1"]);
    assert_eq!(
        answer(&lab.ann, "insert into mine values (1) on conflict (a) do update set a = 3 returning a").await,
        "1 [3]"
    );
    assert_eq!(answer(&lab.ann, "delete from mine using toy.neurons n where n.neuron = mine.a").await, "1");
}
