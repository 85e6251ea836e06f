#include "store/database.h"

#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <gtest/gtest.h>

#include "testing/temporary_folder.h"

namespace hearth::store {
namespace {

constexpr std::uint32_t kId = 0x48740001;
constexpr std::array kSchema{
    Migration{"table t", "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT) STRICT"},
    Migration{"column c", "ALTER TABLE t ADD COLUMN c BLOB; UPDATE t SET c = x'00'"},
};

std::string bytes_of(std::string const& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

class store_database : public ::testing::Test {
protected:
    Result<std::unique_ptr<Database>> open(std::span<Migration const> schema = kSchema,
                                           Options::Mode mode = Options::Mode::read_write) {
        return Database::open({.path = path, .mode = mode, .application_id = kId, .migrations = schema, .vfs = {}});
    }
    hearth::testing::TemporaryFolder folder;
    std::string path = folder / "deep/er/t.db";
};

TEST_F(store_database, values_come_back_as_they_were_bound) {
    auto db = open();
    ASSERT_TRUE(db) << db.error().message;
    std::string const odd("a\0'; DROP TABLE t; --", 21);
    std::array const blob{std::byte{0}, std::byte{255}};
    EXPECT_EQ(*(*db)->run("INSERT INTO t VALUES(?, ?, ?)", {INT64_MIN, odd, std::span<std::byte const>(blob)}), 1);
    EXPECT_EQ(*(*db)->run("INSERT INTO t VALUES(?, ?, ?)", {7, "", nullptr}), 1);
    auto rows = (*db)->query("SELECT a, b, c FROM t ORDER BY a");
    ASSERT_TRUE(rows && *rows->next());
    EXPECT_EQ(rows->integer(0), INT64_MIN);
    EXPECT_EQ(rows->text(1), odd);
    EXPECT_EQ(std::vector(rows->blob(2).begin(), rows->blob(2).end()), std::vector(blob.begin(), blob.end()));
    ASSERT_TRUE(*rows->next());
    EXPECT_FALSE(rows->is_null(1));
    EXPECT_TRUE(rows->is_null(2));
    EXPECT_FALSE(*rows->next());
    EXPECT_EQ(*(*db)->query_integer("SELECT a FROM t WHERE b = ?", {"nothing"}), std::nullopt);
}

TEST_F(store_database, what_fails_in_a_transaction_undoes_all_of_it) {
    auto db = open();
    ASSERT_TRUE(db);
    auto const done = (*db)->transact([&]() -> Status {
        HEARTH_CHECK((*db)->run("INSERT INTO t(a) VALUES(1)"));
        HEARTH_CHECK((*db)->run("INSERT INTO t(a) VALUES(1)"));
        return ok();
    });
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, Code::invalid_argument);
    EXPECT_EQ(done.error().param, path);
    EXPECT_EQ(*(*db)->query_integer("SELECT count(*) FROM t"), 0);
    EXPECT_TRUE((*db)->transact([&] { return (*db)->run("INSERT INTO t(a) VALUES(1)") ? ok() : Status(Error()); }));
    EXPECT_EQ(*(*db)->query_integer("SELECT count(*) FROM t"), 1);
}

TEST_F(store_database, migrations_run_in_order_and_keep_what_there_is) {
    {
        auto first = open(std::span(kSchema).first(1));
        ASSERT_TRUE(first) << first.error().message;
        ASSERT_TRUE((*first)->run("INSERT INTO t VALUES(1, 'x')"));
    }
    auto db = open();
    ASSERT_TRUE(db) << db.error().message;
    EXPECT_EQ(*(*db)->query_integer("PRAGMA user_version"), 2);
    EXPECT_EQ(*(*db)->query_integer("SELECT count(*) FROM t WHERE b = 'x' AND c = x'00'"), 1);
}

TEST_F(store_database, a_migration_that_fails_leaves_the_schema_before_it) {
    auto broken = kSchema;
    broken[1].sql = "ALTER TABLE t ADD COLUMN c BLOB; UPDATE nothing SET c = 1";
    auto const failed = open(broken);
    ASSERT_FALSE(failed);
    EXPECT_NE(failed.error().message.find("schema to 2 (column c)"), std::string::npos) << failed.error().message;
    auto db = open(std::span(kSchema).first(1));
    ASSERT_TRUE(db) << db.error().message;
    EXPECT_EQ(*(*db)->query_integer("SELECT count(*) FROM pragma_table_info('t')"), 2);
}

TEST_F(store_database, a_newer_schema_is_refused_and_not_a_byte_changed) {
    ASSERT_TRUE(open());
    auto const before = bytes_of(path);
    auto const older = open(std::span(kSchema).first(1));
    ASSERT_FALSE(older);
    EXPECT_EQ(older.error().code, Code::unsupported);
    EXPECT_NE(older.error().message.find("schema 2, this Hearth knows up to 1"), std::string::npos);
    EXPECT_EQ(bytes_of(path), before);
}

TEST_F(store_database, a_database_of_something_else_is_left_alone) {
    ASSERT_TRUE(open());
    auto const before = bytes_of(path);
    auto const other = Database::open({.path = path, .application_id = 5, .migrations = kSchema, .vfs = {}});
    ASSERT_FALSE(other);
    EXPECT_EQ(other.error().code, Code::corrupt);
    EXPECT_EQ(bytes_of(path), before);
}

TEST_F(store_database, a_file_that_is_no_database_or_damaged_is_corrupt) {
    {
        auto db = open();
        ASSERT_TRUE(db);
        for (int i = 0; i < 500; ++i) ASSERT_TRUE((*db)->run("INSERT INTO t(b) VALUES(hex(randomblob(200)))"));
    }
    auto bytes = bytes_of(path);
    ASSERT_GT(bytes.size(), 20'000U);
    for (std::size_t at = 8192; at < 16'384; ++at) bytes[at] = 'x';
    std::ofstream(path, std::ios::binary) << bytes;
    EXPECT_EQ(open().error().code, Code::corrupt);
    std::ofstream(path, std::ios::binary) << std::string(5000, 'x');
    EXPECT_EQ(open().error().code, Code::corrupt);
}

TEST_F(store_database, one_process_writes_and_others_read) {
    auto writer = open();
    ASSERT_TRUE(writer);
    auto const second = open();
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, Code::unavailable);
    EXPECT_NE(second.error().message.find("process " + std::to_string(::getpid())), std::string::npos)
        << second.error().message;
    auto reader = open(kSchema, Options::Mode::read_only);
    ASSERT_TRUE(reader) << reader.error().message;
    ASSERT_TRUE((*writer)->run("INSERT INTO t(a) VALUES(1)"));
    EXPECT_EQ(*(*reader)->query_integer("SELECT count(*) FROM t"), 1);
    auto const refused = (*reader)->run("INSERT INTO t(a) VALUES(2)");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::io);
    writer->reset();
    EXPECT_TRUE(open());
}

TEST_F(store_database, readers_make_nothing) {
    EXPECT_FALSE(open(kSchema, Options::Mode::read_only));
    EXPECT_FALSE(std::filesystem::exists(path));
    ASSERT_TRUE(open(std::span(kSchema).first(1)));
    auto const older = open(kSchema, Options::Mode::read_only);
    ASSERT_FALSE(older);
    EXPECT_EQ(older.error().code, Code::unavailable);
}

TEST_F(store_database, values_are_bounded_and_the_limit_is_quoted) {
    auto db = open();
    ASSERT_TRUE(db);
    auto const big = (*db)->run("INSERT INTO t(b) VALUES(?)", {std::string(kValueBytesMax + 1, 'x')});
    ASSERT_FALSE(big);
    EXPECT_EQ(big.error().code, Code::too_large);
    EXPECT_NE(big.error().message.find(std::to_string(kValueBytesMax)), std::string::npos) << big.error().message;
}

TEST_F(store_database, a_column_in_double_quotes_is_never_a_string) {
    auto db = open();
    ASSERT_TRUE(db);
    EXPECT_EQ((*db)->query("SELECT \"x\" FROM t").error().code, Code::internal);
    EXPECT_FALSE((*db)->run("ATTACH DATABASE ':memory:' AS other"));
    EXPECT_FALSE((*db)->query("SELECT load_extension('x')"));
    EXPECT_TRUE((*db)->run("CREATE VIRTUAL TABLE f USING fts5(x)"));
}

}  // namespace
}  // namespace hearth::store
