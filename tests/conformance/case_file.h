// CaseFile: one .case file, read and written back. README.md describes the
// format.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hearth::conformance {

// One line: the word it begins with, and the rest.
struct Step {
    std::string word;
    std::string rest;
    std::size_t line = 0;
};

struct Expected {
    unsigned status = 0;
    std::string content_type;  // empty: not looked at
    std::vector<std::pair<std::string, std::string>> headers;  // name (lower case), pattern; "-" = absent
    std::string body;
    std::size_t first_line = 0;  // index into CaseFile::lines, [first_line, end_line)
    std::size_t end_line = 0;
};

struct Exchange {
    std::vector<Step> steps;  // the last one is the request if `expected` is there
    std::string body;         // of the request, macros expanded
    bool has_expected = false;
    Expected expected;
};

struct CaseFile {
    std::filesystem::path path;
    std::vector<std::string> lines;  // as read, for rewriting
    std::vector<Step> settings;      // before the first exchange
    std::vector<Exchange> exchanges;

    // Throws std::runtime_error naming file, line and problem.
    static CaseFile read(std::filesystem::path const& path);
    static CaseFile parse(std::filesystem::path const& path, std::string_view text);

    // The file's text with the expectations of some exchanges replaced.
    [[nodiscard]] std::string rewritten(std::map<std::size_t, std::string> const& expectations) const;
};

// A quoted string with \n \r \t \0 \" \\ \xNN at the front of `text`, which is
// moved past it. Throws std::runtime_error.
[[nodiscard]] std::string take_quoted(std::string_view& text);

// The word at the front of `text`, which is moved past it and the blanks behind
// it. A macro is part of a word, blanks included.
[[nodiscard]] std::string take_word(std::string_view& text);

// @{COUNT x "TEXT"} repeats a text; everything else stays.
[[nodiscard]] std::string expand(std::string_view text);

}  // namespace hearth::conformance
