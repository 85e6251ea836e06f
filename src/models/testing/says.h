// says(message, parts...): a message contains each part, in any order.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

namespace hearth::models::testing {

template <typename... Parts>
::testing::AssertionResult says(std::string_view message, Parts const&... parts) {
    for (std::string_view const part : {std::string_view(parts)...}) {
        if (message.find(part) == std::string_view::npos) {
            return ::testing::AssertionFailure() << "\"" << message << "\" does not say \"" << part << "\"";
        }
    }
    return ::testing::AssertionSuccess();
}

// There is one message, and it contains `part`.
inline ::testing::AssertionResult says_only(std::vector<std::string> const& messages, std::string_view part) {
    if (messages.size() == 1) return says(messages[0], part);
    auto failure = ::testing::AssertionFailure() << messages.size() << " messages, not one:";
    for (auto const& message : messages) failure << "\n  " << message;
    return failure;
}

}  // namespace hearth::models::testing
