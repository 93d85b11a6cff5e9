from sklearn.datasets import load_digits
from sklearn.tree import DecisionTreeClassifier

import zoo

x, y = load_digits(return_X_y=True)
ensembles = zoo.get("ensembles")
bagged = ensembles(DecisionTreeClassifier(), method="bagging", size=10).fit(x[:1200], y[:1200])
alone = DecisionTreeClassifier(random_state=0).fit(x[:1200], y[:1200])
print(f"one tree {alone.score(x[1200:], y[1200:]):.3f}, ten {bagged.score(x[1200:], y[1200:]):.3f}")
