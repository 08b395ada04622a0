"""The words of the design as values, and what every package stands on: errors, names, units, options, events.

May import: builders.
To add one: a module that depends on nothing of lpack's but what is here.
"""
