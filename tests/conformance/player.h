// Player: plays a case against its World and compares what comes back.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "case_file.h"
#include "testing/http_client.h"
#include "world.h"

namespace hearth::conformance {

struct Outcome {
    std::vector<std::string> failures;                 // "file:line: what", empty: the case passed
    std::map<std::size_t, std::string> expectations;   // by exchange, what would have matched, for --update
};

class Player {
public:
    explicit Player(CaseFile const& file) : file_(file), world_(Settings::parse(file.settings)) {}

    // Ends at the first step that throws: what follows would only fail of it.
    Outcome play();

private:
    // A request whose answer is read later.
    struct Pending {
        explicit Pending(std::uint16_t port) : client(port) {}
        test::HttpClient client;
        std::optional<test::HttpAnswer> head;
        std::string body;  // what was read so far
    };

    // False if a step threw.
    bool play_exchange(Exchange const& exchange, std::size_t index);
    // The answer, if this step is one that is answered.
    std::optional<test::HttpAnswer> perform(Step const& step, std::string const& body);
    bool perform_control(Step const& step);
    bool perform_pending(Step const& step);
    test::HttpAnswer request(std::string const& method, std::string const& path, std::string const& body);
    Pending& pending(std::string_view name);
    void compare(Exchange const& exchange, std::size_t index, test::HttpAnswer const& answer);
    void fail(std::size_t line, std::string const& what);

    CaseFile const& file_;
    World world_;
    test::HeaderList headers_;  // of the next request
    std::map<std::string, std::unique_ptr<Pending>, std::less<>> pending_;
    Outcome outcome_;
};

// Why `answer` is not as expected, empty if it is.
[[nodiscard]] std::string difference(Expected const& expected, test::HttpAnswer const& answer);

// What --update writes for `answer`.
[[nodiscard]] std::string expectation_for(Expected const& old, test::HttpAnswer const& answer);

}  // namespace hearth::conformance
