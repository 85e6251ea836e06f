#include "case_file.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace hearth::conformance {
namespace {

constexpr std::string_view kSettings[] = {"script", "model", "set"};
constexpr std::string_view kMethods[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"};
// Steps that are answered and so end the part before ----.
constexpr std::string_view kAnswered[] = {"receive", "raw"};

template <std::size_t N>
bool one_of(std::string_view const (&words)[N], std::string_view word) {
    return std::find(std::begin(words), std::end(words), word) != std::end(words);
}

std::string_view trim(std::string_view text) {
    auto const first = text.find_first_not_of(" \t\r");
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

Step split(std::string_view line, std::size_t number) {
    auto const text = trim(line);
    auto const space = std::min(text.find_first_of(" \t"), text.size());
    return {std::string(text.substr(0, space)), std::string(trim(text.substr(space))), number};
}

std::vector<std::string> split_lines(std::string_view text) {
    std::vector<std::string> lines;
    while (!text.empty()) {
        auto const end = std::min(text.find('\n'), text.size());
        lines.emplace_back(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return lines;
}

class Reader {
public:
    explicit Reader(CaseFile& file) : file_(file) {}

    void read() {
        read_settings();
        while (at_ < file_.lines.size()) read_exchange();
        if (file_.exchanges.empty()) fail("no exchange");
    }

private:
    [[noreturn]] void fail(std::string const& what) const {
        throw std::runtime_error(file_.path.string() + ":" + std::to_string(at_ + 1) + ": " + what);
    }
    [[nodiscard]] bool blank() const {
        auto const line = trim(file_.lines[at_]);
        return line.empty() || line.starts_with('#');
    }
    [[nodiscard]] bool is(std::string_view separator) const {
        return at_ < file_.lines.size() && trim(file_.lines[at_]) == separator;
    }

    void read_settings() {
        for (; at_ < file_.lines.size(); ++at_) {
            if (blank()) continue;
            auto step = split(file_.lines[at_], at_ + 1);
            if (!one_of(kSettings, step.word)) return;
            file_.settings.push_back(std::move(step));
        }
    }

    void read_exchange() {
        Exchange exchange;
        bool answered = false;
        for (; at_ < file_.lines.size() && !is("----") && !is("===="); ++at_) {
            if (blank() && !answered) continue;
            if (answered) {  // the request's body goes on
                exchange.body += "\n" + file_.lines[at_];
                continue;
            }
            exchange.steps.push_back(split(file_.lines[at_], at_ + 1));
            auto& step = exchange.steps.back();
            answered = one_of(kMethods, step.word) || one_of(kAnswered, step.word);
            if (!one_of(kMethods, step.word)) continue;
            std::string_view rest = step.rest;
            auto path = take_word(rest);
            exchange.body = rest;
            step.rest = std::move(path);
        }
        exchange.body = expand(trim(exchange.body));
        exchange.has_expected = is("----");
        if (exchange.has_expected != answered) fail(answered ? "a request without ----" : "---- without a request");
        if (exchange.has_expected) read_expected(exchange.expected);
        if (is("====")) ++at_;
        if (!exchange.steps.empty()) file_.exchanges.push_back(std::move(exchange));
    }

    void read_expected(Expected& expected) {
        expected.first_line = ++at_;
        while (at_ < file_.lines.size() && trim(file_.lines[at_]).empty()) ++at_;
        if (at_ == file_.lines.size()) fail("no expectation");
        auto const head = split(file_.lines[at_], at_ + 1);
        ++at_;
        auto const [end, failed] =
            std::from_chars(head.word.data(), head.word.data() + head.word.size(), expected.status);
        if (failed != std::errc{} || end != head.word.data() + head.word.size()) fail("no status: " + head.word);
        expected.content_type = head.rest;
        for (; at_ < file_.lines.size(); ++at_) {
            auto const step = split(file_.lines[at_], at_ + 1);
            if (step.word != "header") break;
            auto const colon = step.rest.find(':');
            if (colon == std::string::npos) fail("no header: " + step.rest);
            expected.headers.emplace_back(step.rest.substr(0, colon),
                                          trim(std::string_view(step.rest).substr(colon + 1)));
        }
        for (; at_ < file_.lines.size() && !is("===="); ++at_) expected.body += file_.lines[at_] + "\n";
        expected.end_line = at_;
    }

    CaseFile& file_;
    std::size_t at_ = 0;
};

}  // namespace

CaseFile CaseFile::read(std::filesystem::path const& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in) throw std::runtime_error(path.string() + ": cannot be read");
    std::string const text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    return parse(path, text);
}

CaseFile CaseFile::parse(std::filesystem::path const& path, std::string_view text) {
    CaseFile file;
    file.path = path;
    file.lines = split_lines(text);
    Reader(file).read();
    return file;
}

std::string CaseFile::rewritten(std::map<std::size_t, std::string> const& expectations) const {
    std::string out;
    std::size_t line = 0;
    for (std::size_t i = 0; i < exchanges.size(); ++i) {
        auto const found = expectations.find(i);
        if (found == expectations.end()) continue;
        auto const& expected = exchanges[i].expected;
        for (; line < expected.first_line; ++line) out += lines[line] + "\n";
        out += found->second;
        line = expected.end_line;
    }
    for (; line < lines.size(); ++line) out += lines[line] + "\n";
    return out;
}

std::string take_quoted(std::string_view& text) {
    if (!text.starts_with('"')) throw std::runtime_error("no quoted string: " + std::string(text));
    std::string out;
    std::size_t i = 1;
    for (; i < text.size() && text[i] != '"'; ++i) {
        if (text[i] != '\\') {
            out += text[i];
            continue;
        }
        char const escape = ++i < text.size() ? text[i] : '"';
        if (escape == 'n') out += '\n';
        else if (escape == 'r') out += '\r';
        else if (escape == 't') out += '\t';
        else if (escape == '0') out += '\0';
        else if (escape == 'x' && i + 2 < text.size()) {
            out += static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16));
            i += 2;
        } else out += escape;
    }
    if (i >= text.size()) throw std::runtime_error("a quoted string without an end: " + std::string(text));
    text = trim(text.substr(i + 1));
    return out;
}

std::string take_word(std::string_view& text) {
    std::size_t end = 0;
    while (end < text.size() && text[end] != ' ' && text[end] != '\t')
        end = text.substr(end).starts_with("@{") ? std::min(text.find('}', end), text.size() - 1) + 1 : end + 1;
    std::string word(text.substr(0, end));
    text = trim(text.substr(end));
    return word;
}

std::string expand(std::string_view text) {
    std::string out;
    for (auto at = text.find("@{"); at != std::string_view::npos; at = text.find("@{")) {
        out += text.substr(0, at);
        text.remove_prefix(at + 2);
        std::size_t count = 0;
        auto const [end, failed] = std::from_chars(text.data(), text.data() + text.size(), count);
        if (failed != std::errc{}) throw std::runtime_error("no count in @{");
        text = trim(text.substr(static_cast<std::size_t>(end - text.data())));
        if (!text.starts_with('x')) throw std::runtime_error("no 'x' in @{");
        text = trim(text.substr(1));
        auto const piece = take_quoted(text);
        if (!text.starts_with('}')) throw std::runtime_error("no '}' after @{");
        text.remove_prefix(1);
        for (std::size_t i = 0; i < count; ++i) out += piece;
    }
    return out += text;
}

}  // namespace hearth::conformance
