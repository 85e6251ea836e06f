// The documents made from tables stay in step with them. To rewrite them:
// HEARTH_UPDATE_DOCS=1 hearth_api_tests --gtest_filter='Docs.*'
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "api/errors.h"
#include "api/ollama/fields.h"
#include "api/openai/fields.h"

namespace hearth::api {
namespace {

constexpr std::string_view kBegin = "<!-- made from the table: begin -->\n";
constexpr std::string_view kEnd = "<!-- made from the table: end -->\n";

std::string read(std::filesystem::path const& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void expect_in_step(std::string const& name, std::string const& table) {
    char const* source = std::getenv("HEARTH_SOURCE_DIR");
    ASSERT_NE(source, nullptr) << "run by ctest, or set HEARTH_SOURCE_DIR";
    auto const file = std::filesystem::path(source) / "docs" / "api" / name;
    auto const text = read(file);
    auto const begin = text.find(kBegin);
    auto const end = text.find(kEnd);
    ASSERT_NE(begin, std::string::npos) << file;
    ASSERT_NE(end, std::string::npos) << file;
    auto const at = begin + kBegin.size();
    if (text.substr(at, end - at) == table) return;
    if (std::getenv("HEARTH_UPDATE_DOCS") != nullptr) {
        std::ofstream(file, std::ios::binary) << text.substr(0, at) << table << text.substr(end);
        return;
    }
    ADD_FAILURE() << file << " is out of step with its table; HEARTH_UPDATE_DOCS=1 rewrites it";
}

TEST(Docs, ListEveryError) { expect_in_step("errors.md", catalogue_markdown()); }

TEST(Docs, ListEveryField) { expect_in_step("openai.md", openai::fields_markdown()); }

TEST(Docs, ListEveryFieldOfOllamasDialect) { expect_in_step("ollama.md", ollama::fields_markdown()); }

}  // namespace
}  // namespace hearth::api
