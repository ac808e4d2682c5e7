"""Ask for two jobs, wait for a worker to do them, print what came out."""

from myapp import longest, split

words = split.delay("one file holds everything")
word = words.then(longest)

print("waiting for a worker …", flush=True)
print("the words:", words.get(timeout=60))
print("the longest:", word.get(timeout=60))
