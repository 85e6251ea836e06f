#include "models/file_facts.h"

#include <filesystem>
#include <future>
#include <string>

#include <gtest/gtest.h>

#include "digest/sha256.h"
#include "testing/gguf_writer.h"

namespace hearth::models {
namespace {

using Depth = FactsReader::Depth;

// Waits for what the reader says.
Result<FactsPointer> ask(FactsReader& reader, std::string const& path, Depth depth) {
    auto said = std::make_shared<std::promise<Result<FactsPointer>>>();
    auto future = said->get_future();
    reader.read(path, depth, [said](Result<FactsPointer> facts) { said->set_value(std::move(facts)); });
    return future.get();
}

TEST(FactsReader, TellsHeaderAndDigest) {
    testing::ScratchFolder const folder;
    auto const bytes = testing::tiny_llama().build();
    auto const path = folder.write("tiny.gguf", bytes);
    FactsReader reader;
    auto const header = ask(reader, path, Depth::header);
    ASSERT_TRUE(header.has_value());
    EXPECT_EQ((*header)->bytes, bytes.size());
    EXPECT_GT((*header)->modified_ns, 0);
    EXPECT_EQ((*header)->digest, "");
    EXPECT_EQ((*header)->report.architecture, "llama");
    EXPECT_GT((*header)->report.parameters, 0U);
    EXPECT_EQ((*header)->files.front().text("general.name"), "tiny");

    auto const whole = ask(reader, path, Depth::digest);
    ASSERT_TRUE(whole.has_value());
    EXPECT_EQ((*whole)->digest, digest::sha256_hex(bytes));
    EXPECT_EQ((*whole)->report.architecture, "llama");
}

TEST(FactsReader, KeepsWhatItReadWhileTheFileStaysTheSame) {
    testing::ScratchFolder const folder;
    auto const path = folder.write("tiny.gguf", testing::tiny_llama().build());
    FactsReader reader;
    auto const first = ask(reader, path, Depth::digest);
    auto const second = ask(reader, path, Depth::header);
    ASSERT_TRUE(first && second);
    EXPECT_EQ(*first, *second) << "the same object";

    auto const changed = testing::tiny_llama().text("general.name", "other").build();
    ASSERT_EQ(folder.write("tiny.gguf", changed), path);
    std::filesystem::last_write_time(path, std::filesystem::file_time_type::clock::now() + std::chrono::hours(1));
    auto const third = ask(reader, path, Depth::header);
    ASSERT_TRUE(third.has_value());
    EXPECT_EQ((*third)->files.front().text("general.name"), "other");
    EXPECT_EQ((*third)->digest, "") << "that of the old file is forgotten";
    EXPECT_EQ((*ask(reader, path, Depth::digest))->digest, digest::sha256_hex(changed));
}

// Headers go between the pieces of a digest; a second caller waits for the same digest.
TEST(FactsReader, AnswersEverybodyWhileItHashes) {
    testing::ScratchFolder const folder;
    auto const large = testing::tiny_llama(0, 512).build();
    auto const path = folder.write("large.gguf", large);
    auto const small = folder.write("small.gguf", testing::tiny_llama().build());
    FactsReader reader;
    std::vector<std::future<std::string>> digests;
    for (int i = 0; i < 3; ++i) {
        auto said = std::make_shared<std::promise<std::string>>();
        digests.push_back(said->get_future());
        reader.read(path, Depth::digest,
                    [said](Result<FactsPointer> facts) { said->set_value(facts ? (*facts)->digest : "failed"); });
    }
    EXPECT_TRUE(ask(reader, small, Depth::header).has_value());
    for (auto& digest : digests) EXPECT_EQ(digest.get(), digest::sha256_hex(large));
}

TEST(FactsReader, SaysWhatIsWrongWithAFile) {
    testing::ScratchFolder const folder;
    FactsReader reader;
    auto const missing = ask(reader, folder.path() + "/none.gguf", Depth::digest);
    ASSERT_FALSE(missing.has_value());
    EXPECT_EQ(missing.error().code, Code::not_found);
    auto const broken = ask(reader, folder.write("broken.gguf", "GGUFnonsense"), Depth::header);
    ASSERT_FALSE(broken.has_value());
    EXPECT_EQ(broken.error().code, Code::corrupt);
}

TEST(FactsReader, DropsWhatWaitsWhenItEnds) {
    testing::ScratchFolder const folder;
    auto const path = folder.write("tiny.gguf", testing::tiny_llama(0, 512).build());
    auto calls = std::make_shared<int>(0);
    {
        FactsReader reader;
        for (std::size_t i = 0; i < 100; ++i)
            reader.read(path, Depth::digest, [calls](Result<FactsPointer> const&) { ++*calls; });
    }
    EXPECT_EQ(calls.use_count(), 1) << "no callback is left behind";
}

}  // namespace
}  // namespace hearth::models
